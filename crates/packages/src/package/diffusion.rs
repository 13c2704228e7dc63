//! The diffusion process a model was trained on: `[diffusion]`.

use reverie_diffusion::{
    BetaSchedule, FlowShift, NoiseLevels, NoiseSchedule, PredictionType, ScheduleError, Variance,
};
use serde::{Deserialize, Serialize};

use super::manifest::MAX_CHANNELS;

/// The diffusion process a model was trained on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionFacts {
    /// Side of the picture, pixels.
    pub image_size: usize,
    /// Other sizes of pictures, where the graph has open axes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_sizes: Option<OtherSizes>,
    /// What the model predicts.
    pub prediction_type: PredictionType,
    /// Its noise schedule; needless with flow matching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_schedule: Option<BetaSchedule>,
    /// The first beta, where it is not the paper's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_start: Option<f64>,
    /// The last beta, where it is not the paper's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_end: Option<f64>,
    /// Length of the schedule.
    pub train_timesteps: u32,
    /// Whether the schedule ends in pure noise: zero terminal SNR.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zero_terminal_snr: bool,
    /// For a latent consistency model: the timesteps that it was distilled on, usually 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distilled_steps: Option<u32>,
    /// Super-resolution: side of the picture it starts from, pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_resolution_size: Option<usize>,
    /// What the second half of the output's channels says of the variance of a DDPM step, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned_variance: Option<LearnedVariance>,
    /// What the timestep is multiplied by for the model (FLUX: 0.001).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub timestep_scale: f32,
    /// For models trained by flow matching: how their noise levels are shifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// For models that work on latents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentFacts>,
}

/// Sizes of pictures that a model draws besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherSizes {
    /// Width and height are multiples of this, pixels.
    pub multiple: u32,
    /// The largest width and height, pixels.
    pub max_side: u32,
    /// The most pixels of a picture; its memory and its time grow with them.
    pub max_pixels: u32,
}

/// What a model says of the variance of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearnedVariance {
    /// The variance itself.
    Learned,
    /// A place between the fixed ones (Improved DDPM, equation 15).
    LearnedRange,
    /// Something that is left unread: the model is sampled with a fixed variance.
    Unread,
}

/// The shift of the noise levels of flow matching towards noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Flow {
    /// By this factor, as SD3 is sampled.
    Shift(f64),
    /// By e^mu, which grows with the picture.
    Mu {
        /// mu of a picture without tokens.
        base: f64,
        /// What each token of x adds to mu, or each pixel of a latent that is not given as tokens.
        per_token: f64,
        /// Whether the levels that are shifted end at 1 / T (SD3) instead of 1 / N (FLUX).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        to_last_timestep: bool,
    },
}

/// The latents that a model works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentFacts {
    /// Channels of x.
    pub channels: usize,
    /// Pixels of the picture along the side of one latent pixel.
    pub downscale: usize,
    /// Latent pixels along the side of one token, where the graph takes x as tokens (FLUX: 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<usize>,
    /// SHA-256 of the graph of the decoder that its latents are for.
    pub decoder: String,
}

fn one() -> f32 {
    1.0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::float_cmp,
    reason = "serde asks so; exactly the default"
)]
fn is_one(scale: &f32) -> bool {
    *scale == 1.0
}

impl DiffusionFacts {
    /// The schedule that the model was trained with. Flow matching asks it only for its length.
    pub fn schedule(&self) -> Result<NoiseSchedule, ScheduleError> {
        let shape = self.beta_schedule.unwrap_or(BetaSchedule::Linear);
        let (start, end) = shape.default_betas();
        let (start, end) = (self.beta_start.unwrap_or(start), self.beta_end.unwrap_or(end));
        let schedule = NoiseSchedule::with_betas(shape, self.train_timesteps, start, end)?;
        Ok(if self.zero_terminal_snr { schedule.with_zero_terminal_snr() } else { schedule })
    }

    /// The noise levels that the model must be sampled on, if it is bound to some, for x of the extents `sample`.
    pub fn own_levels(&self, sample: [usize; 3]) -> Option<NoiseLevels> {
        self.flow.map(|flow| {
            NoiseLevels::Flow(match flow {
                Flow::Shift(shift) => FlowShift::Static(shift),
                Flow::Mu { base, per_token, to_last_timestep } => {
                    let [_, height, width] = sample;
                    let patch = self.latent.as_ref().and_then(|latent| latent.patch).unwrap_or(1);
                    let tokens = (height / patch) * (width / patch);
                    FlowShift::Dynamic { mu: base + per_token * tokens as f64, to_last_timestep }
                }
            })
        })
    }

    /// The variance that the model tells, if it tells one.
    pub fn own_variance(&self) -> Option<Variance> {
        match self.learned_variance? {
            LearnedVariance::Learned => Some(Variance::Learned),
            LearnedVariance::LearnedRange => Some(Variance::LearnedRange),
            LearnedVariance::Unread => None,
        }
    }

    /// Extents of x: channels, height and width. Of a picture of `width` x `height` pixels, or of its latent.
    pub fn sample_extents(&self, width: usize, height: usize) -> [usize; 3] {
        match &self.latent {
            None => [3, height, width],
            Some(latent) => [latent.channels, height / latent.downscale, width / latent.downscale],
        }
    }

    /// Extents of x for the picture of the model's own size.
    pub fn own_sample(&self) -> [usize; 3] {
        self.sample_extents(self.image_size, self.image_size)
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        let zero = self.image_size == 0 || self.low_resolution_size == Some(0);
        if zero || self.image_size > MAX_SIDE || !(1..=100_000).contains(&self.train_timesteps) {
            return Err("[diffusion] has a size or train_timesteps out of range".to_owned());
        }
        if self.distilled_steps.is_some_and(|steps| !(1..=self.train_timesteps).contains(&steps)) {
            return Err("diffusion.distilled_steps must be 1 to diffusion.train_timesteps".to_owned());
        }
        if !(self.timestep_scale.is_finite() && self.timestep_scale > 0.0) {
            return Err("diffusion.timestep_scale must be above 0".to_owned());
        }
        if let Some(latent) = &self.latent {
            let LatentFacts { channels, downscale, patch, .. } = *latent;
            if channels == 0 || channels > MAX_CHANNELS || downscale == 0 || patch == Some(0) {
                return Err("[diffusion.latent] has a number out of range".to_owned());
            }
            if !self.image_size.is_multiple_of(downscale.saturating_mul(patch.unwrap_or(1))) {
                return Err(
                    "diffusion.image_size must be a multiple of latent.downscale and latent.patch".to_owned()
                );
            }
        }
        if let Some(sizes) = self.other_sizes {
            let latent = self.latent.as_ref();
            let unit = latent.map_or(1, |latent| latent.downscale * latent.patch.unwrap_or(1));
            let multiple = sizes.multiple as usize;
            if multiple == 0 || !multiple.is_multiple_of(unit) || sizes.max_side as usize > MAX_SIDE {
                return Err(format!(
                    "diffusion.other_sizes: its multiple must be one of {unit}, its max_side at most {MAX_SIDE}"
                ));
            }
        }
        if self.flow.is_some() != (self.prediction_type == PredictionType::FlowPrediction) {
            return Err("the prediction_type flow_prediction and [diffusion.flow] belong together".to_owned());
        }
        match self.flow {
            None if self.beta_schedule.is_none() => {
                return Err("diffusion.beta_schedule is missing".to_owned());
            }
            Some(Flow::Shift(shift)) if !(shift.is_finite() && shift > 0.0) => {
                return Err("diffusion.flow.shift must be above 0".to_owned());
            }
            Some(Flow::Mu { base, per_token, .. }) if !(base.abs() < 100.0 && per_token.abs() < 1.0) => {
                return Err("diffusion.flow.mu must have a base below 100 and a per_token below 1".to_owned());
            }
            _ => {}
        }
        if self.prediction_type == PredictionType::Epsilon && self.zero_terminal_snr {
            return Err("a model that predicts epsilon cannot start from zero_terminal_snr".to_owned());
        }
        self.schedule().map(|_| ()).map_err(|error| format!("[diffusion]: {error}"))
    }
}

/// Bounds on what a file can make us allocate.
const MAX_SIDE: usize = 16_384;
