//! From a model's output to the next x, whichever sampler was asked for.
//!
//! To add a sampler: one file with an `updates` function beside [`ddim`] and [`ddpm`], one variant of [`SamplerKind`],
//! one arm in [`Sampler::new`].

use serde::{Deserialize, Serialize};

use crate::ddim;
use crate::ddpm::{self, Variance};
use crate::noise::NoiseSource;
use crate::prediction::{Conversion, PredictionType};
use crate::schedule::NoiseSchedule;
use crate::threshold::{ThresholdError, Thresholder, Thresholding};
use crate::timesteps::{TimestepError, TimestepSpacing};
use crate::update::Update;

/// The samplers, named as in model packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Song et al. 2021; deterministic unless `ddim_eta` is above 0.
    Ddim,
    /// Ho et al. 2020; stochastic, for many steps.
    Ddpm,
}

/// Everything that decides how x moves, apart from the model and the schedule it was trained with.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerSettings {
    /// Which sampler.
    pub kind: SamplerKind,
    /// N, between 1 and T.
    pub steps: u32,
    /// Which timesteps the N steps visit.
    pub spacing: TimestepSpacing,
    /// Added to every timestep of leading spacing.
    pub steps_offset: u32,
    /// What the model's output means.
    pub prediction: PredictionType,
    /// How x0 is kept in range.
    pub thresholding: Thresholding,
    /// DDIM only, in [0, 1]: 0 is deterministic, 1 as stochastic as DDPM.
    pub ddim_eta: f32,
    /// DDIM only: whether the last step lands on x0 itself or on timestep 0.
    pub set_alpha_to_one: bool,
    /// DDPM only.
    pub variance: Variance,
}

impl Default for SamplerSettings {
    /// DDIM, 50 steps, trailing, eps prediction, no thresholding.
    fn default() -> Self {
        Self {
            kind: SamplerKind::Ddim,
            steps: 50,
            spacing: TimestepSpacing::Trailing,
            steps_offset: 0,
            prediction: PredictionType::Epsilon,
            thresholding: Thresholding::None,
            ddim_eta: 0.0,
            set_alpha_to_one: true,
            variance: Variance::FixedSmall,
        }
    }
}

/// Why a sampler cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SamplerError {
    /// The timesteps cannot be laid out.
    #[error(transparent)]
    Timesteps(#[from] TimestepError),
    /// The thresholding is out of range.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// Above 1 the noise added would exceed the noise wanted.
    #[error("ddim_eta must be in [0, 1], not {0}")]
    DdimEta(f32),
}

/// One trajectory's sampler: everything that depends on the timestep is worked out beforehand, so that a step allocates
/// nothing.
#[derive(Debug, Clone)]
pub struct Sampler {
    timesteps: Vec<u32>,
    conversions: Vec<Conversion>,
    updates: Vec<Update>,
    thresholder: Thresholder,
}

impl Sampler {
    /// A sampler over a model's training schedule.
    pub fn new(schedule: &NoiseSchedule, settings: &SamplerSettings) -> Result<Self, SamplerError> {
        let eta = settings.ddim_eta;
        if !(0.0..=1.0).contains(&eta) {
            return Err(SamplerError::DdimEta(eta));
        }
        let timesteps =
            settings.spacing.timesteps(schedule.train_timesteps(), settings.steps, settings.steps_offset)?;
        let updates = match settings.kind {
            SamplerKind::Ddim => {
                ddim::updates(schedule, &timesteps, f64::from(eta), settings.set_alpha_to_one)
            }
            SamplerKind::Ddpm => ddpm::updates(schedule, &timesteps, settings.variance),
        };
        Ok(Self {
            conversions: timesteps.iter().map(|&t| settings.prediction.conversion(schedule.abar(t))).collect(),
            thresholder: Thresholder::new(settings.thresholding)?,
            timesteps,
            updates,
        })
    }

    /// N, the number of steps.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// The timestep the model is evaluated at in each step, falling.
    pub fn timesteps(&self) -> &[u32] {
        &self.timesteps
    }

    /// Takes step `i` (from 0): moves `x` from timestep i to the next one, or to the finished sample after the last.
    ///
    /// `output` is the model's (guided) output for `x` at `timesteps()[i]`. It is overwritten with the thresholded x0,
    /// the picture as the model sees it now, which is what a preview shows.
    ///
    /// # Panics
    /// When `i` is not below [`Self::steps`] or the two slices differ in length.
    pub fn step(&mut self, i: usize, x: &mut [f32], output: &mut [f32], noise: &NoiseSource) {
        assert_eq!(x.len(), output.len(), "a model's output has the shape of its input");
        // 1. What the model says x0 is.
        let conversion = self.conversions[i];
        for (x, output) in x.iter().zip(output.iter_mut()) {
            *output = conversion.x0(*x, *output);
        }
        // 2. Back into range.
        let x0 = output;
        self.thresholder.apply(x0);
        // 3. To the next timestep, with the eps that belongs to this x0 (see `Update`).
        self.updates[i].apply(i as u32, x, x0, noise);
    }
}
