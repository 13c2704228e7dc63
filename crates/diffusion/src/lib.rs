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

pub mod guidance;
mod levels;
mod noise;
mod samplers;
mod step;

pub use levels::{
    BetaSchedule, EdmLevels, FinalSigma, FlowShift, NoiseLevels, NoiseSchedule, ScheduleError, TimestepError,
    TimestepSpacing,
};
pub use noise::{AugmentationError, NoiseSource, Stream, augment, augment_at, augmentation_timestep};
pub use samplers::{DdimNoise, Method, PreviousTimestep, SamplerKind, Variance};
pub use step::{
    InitialSample, PredictionType, Sampler, SamplerError, SamplerSettings, ThresholdError, Thresholding,
    ThresholdingKind, use_threads,
};
