//! The mathematics of guided diffusion sampling: schedules, timesteps, samplers, guidance, thresholding and noise.
//!
//! Nothing here knows of models, threads or the network. A picture is a flat `f32` slice (any shape, row-major,
//! pixels in [-1, 1]); one slice is one sample.
//!
//! # Notation
//!
//! | here       | papers            | meaning                                                                     |
//! |------------|-------------------|-----------------------------------------------------------------------------|
//! | `abar`     | ᾱ_t               | cumulative product of 1 - β: the share of signal variance left at timestep t |
//! | `a`, `s`   | √ᾱ_t, √(1-ᾱ_t)    | signal and noise scale: x_t = a x0 + s ε                                    |
//! | `x`        | x_t               | the noisy sample, always as the model sees it                               |
//! | σ, λ       | σ, λ              | s/a and ln(a/s), the noise level as some papers count it                    |
//! | `x0`       | x̂_0               | the clean sample as the model sees it from x_t                              |
//! | `eps`      | ε                 | the noise in x_t, unit normal                                               |
//! | `z`        | z                 | fresh noise that a stochastic step adds                                     |
//! | T, N       | T, S              | timesteps in training, steps in sampling                                    |
//! | c_p, c_n   | c_p, c_n          | text prompt and neighbours, the two conditions of Re-Imagen                 |
//!
//! # One step
//!
//! [`guidance::Plan`] says which conditional evaluations step i needs and how to add them up ([`guidance::combine`]);
//! [`Sampler::step`] turns the sum into x0, thresholds it ([`Thresholding`]) and moves x to the next timestep. Whatever
//! the [`Method`], that is a weighted sum of x, x0 and tensors kept from earlier evaluations, with weights worked out
//! beforehand. [`InitialSample`] is what a trajectory starts from besides noise, and what it keeps of it. All randomness is
//! a pure function of (seed, sample, stage, stream, step, index): see [`NoiseSource`].

#![expect(clippy::doc_markdown, reason = "formulas stand as the papers print them: x_t, e_p, w_n")]
#![cfg_attr(test, expect(clippy::float_cmp, reason = "what should be exact is tested to be exact"))]

mod augmentation;
mod combination;
#[cfg(test)]
mod convergence;
mod ddim;
mod ddpm;
mod dpm_solver;
mod edm;
mod euler;
mod evaluation;
mod flow;
pub mod guidance;
mod heun;
mod initial;
mod karras;
mod lcm;
mod level;
mod levels;
mod method;
mod noise;
mod normal;
#[cfg(test)]
mod parity;
mod philox;
mod pndm;
mod prediction;
mod sampler;
mod schedule;
mod threads;
mod threshold;
mod timesteps;
mod unipc;
mod walk;

pub use augmentation::{AugmentationError, augment, augment_at, augmentation_timestep};
pub use ddim::{DdimNoise, PreviousTimestep};
pub use ddpm::Variance;
pub use edm::EdmLevels;
pub use flow::FlowShift;
pub use initial::InitialSample;
pub use levels::{FinalSigma, NoiseLevels};
pub use method::{Method, SamplerKind};
pub use noise::{NoiseSource, Stream};
pub use prediction::{Conversion, PredictionType};
pub use sampler::{Sampler, SamplerError, SamplerSettings};
pub use schedule::{BetaSchedule, NoiseSchedule, ScheduleError};
pub use threshold::{ThresholdError, Thresholder, Thresholding, ThresholdingKind};
pub use timesteps::{TimestepError, TimestepSpacing};
