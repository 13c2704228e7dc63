//! One step of a trajectory: x0 read from the model's output, thresholded, and x moved.

mod combination;
mod error;
mod evaluation;
pub(crate) mod initial;
mod prediction;
mod sampler;
mod settings;
mod threads;
mod threshold;
mod walk;

pub(crate) use combination::Combination;
pub use error::SamplerError;
#[cfg(test)]
pub(crate) use evaluation::PART;
pub(crate) use evaluation::{Evaluation, FreshNoise, Move};
pub use initial::InitialSample;
pub(crate) use prediction::Conversion;
pub use prediction::PredictionType;
pub use sampler::Sampler;
pub use settings::SamplerSettings;
pub use threads::use_threads;
pub(crate) use threads::{share, threads_for};
pub(crate) use threshold::Thresholder;
pub use threshold::{ThresholdError, Thresholding, ThresholdingKind};
