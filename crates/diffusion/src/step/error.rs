//! Why a sampler is refused.

use super::{PredictionType, ThresholdError, initial};
use crate::levels::{NoiseLevels, TimestepError};
use crate::samplers::{Method, SamplerKind, pndm, unipc};

/// Why a sampler cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SamplerError {
    /// The timesteps cannot be laid out.
    #[error(transparent)]
    Timesteps(#[from] TimestepError),
    /// The thresholding is out of range.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// A share of the steps.
    #[error("strength must be above 0 and at most 1, not {0}")]
    Strength(f64),
    /// A share of the steps that is not a step.
    #[error(
        "strength {strength} of {steps} steps is less than one step: at least {least}",
        least = initial::least_strength(*.steps)
    )]
    NoSteps {
        /// The share, as asked for.
        strength: f64,
        /// N, as asked for.
        steps: u32,
    },
    /// Above 1 the noise added would exceed the noise wanted.
    #[error("ddim_eta must be in [0, 1], not {0}")]
    DdimEta(f32),
    /// UniPC keeps one x0 an order.
    #[error("UniPC's order must be between 1 and {max}, not {0}", max = unipc::MAX_ORDER)]
    Order(u32),
    /// Three steps of Runge-Kutta and at least one more.
    #[error("PNDM with Runge-Kutta takes at least {min} steps, not {0}", min = pndm::MIN_STEPS)]
    RungeKuttaSteps(u32),
    /// A distilled model knows the timesteps it was distilled on.
    #[error("LCM takes 1 to {most} steps here, not {steps}: it was distilled on {original_steps} timesteps")]
    LcmSteps {
        /// N, as asked for.
        steps: u32,
        /// The share of the timesteps below that the strength leaves; 0 where there are none, or more than T.
        most: u32,
        /// O, as asked for.
        original_steps: u32,
    },
    /// Defined on the timesteps of training.
    #[error("{0:?} has no noise levels but those of training")]
    TrainedLevelsOnly(Method),
    /// Nobody has said what its fresh noise is there.
    #[error("{0:?} is not defined on the noise levels of flow matching")]
    NotForFlow(SamplerKind),
    /// A weight of the next x is infinite or no number: no signal is left where a step needs some.
    #[error("{method:?} is not defined at a noise level of {levels:?}, where no signal is left")]
    NotFinite {
        /// The sampler.
        method: Method,
        /// The noise levels.
        levels: NoiseLevels,
    },
    /// Not positive and finite, or ends that are not in order.
    #[error("{0:?} are no noise levels")]
    Levels(NoiseLevels),
    /// v is of variance-preserving levels, the flow of all but EDM's.
    #[error("{prediction:?} does not go with {levels:?}")]
    Prediction {
        /// What the output means.
        prediction: PredictionType,
        /// The noise levels.
        levels: NoiseLevels,
    },
    /// The first timestep is pure noise, of which eps says nothing.
    #[error(
        "{0:?} says nothing of x0 at zero terminal SNR: the model must predict v, the flow or the sample"
    )]
    NoSignal(PredictionType),
}
