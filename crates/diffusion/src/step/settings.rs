//! What a caller chooses about a trajectory's sampler.

use super::{PredictionType, Thresholding};
use crate::levels::{FinalSigma, NoiseLevels, TimestepSpacing};
use crate::samplers::Method;

/// Everything that decides how x moves, apart from the model and the schedule it was trained with.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerSettings {
    /// Which sampler.
    pub method: Method,
    /// N, between 1 and T.
    pub steps: u32,
    /// Which timesteps the N steps visit.
    pub spacing: TimestepSpacing,
    /// Added to every timestep of leading spacing.
    pub steps_offset: u32,
    /// Which noise levels the N steps go through.
    pub levels: NoiseLevels,
    /// Where the last step of a sampler in sigma ends.
    pub final_sigma: FinalSigma,
    /// What the model's output means.
    pub prediction: PredictionType,
    /// How x0 is kept in range.
    pub thresholding: Thresholding,
    /// The share of the N steps that are taken, in (0, 1], or that is left of the noise where LCM spreads them; from a sample that
    /// is not all noise: see [`InitialSample`](crate::InitialSample). Usually 1.
    pub strength: f64,
}

impl Default for SamplerSettings {
    /// DDIM, 50 steps, trailing, eps prediction, no thresholding.
    fn default() -> Self {
        Self {
            method: Method::DDIM,
            steps: 50,
            spacing: TimestepSpacing::Trailing,
            steps_offset: 0,
            levels: NoiseLevels::Trained,
            final_sigma: FinalSigma::Zero,
            prediction: PredictionType::Epsilon,
            thresholding: Thresholding::None,
            strength: 1.0,
        }
    }
}
