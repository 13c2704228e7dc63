//! What a request that says nothing gets: `[defaults]`.

use std::collections::BTreeMap;

use reverie_diffusion::{
    DdimNoise, FinalSigma, NoiseLevels, PreviousTimestep, SamplerKind, ThresholdingKind, TimestepSpacing,
    Variance,
};
use serde::{Deserialize, Serialize};

use super::numbers::check;

/// The largest weight of guidance, which requests may not exceed either.
const MAX_WEIGHT: f32 = 50.0;

/// What a request that says nothing gets, and the conventions that the model is sampled by, whatever the sampler but for those
/// in `samplers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// The sampler.
    pub sampler: SamplerKind,
    /// Steps.
    pub steps: u32,
    /// Which timesteps the steps visit.
    pub timestep_spacing: TimestepSpacing,
    /// Added to every timestep of leading spacing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps_offset: u32,
    /// How the noise levels of samplers in sigma are spaced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub noise_levels: Spacing,
    /// Where the last step of samplers in sigma ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub final_sigma: FinalSigma,
    /// DDIM: which noise level a step moves to.
    #[serde(default = "next", skip_serializing_if = "is_next")]
    pub previous_timestep: PreviousTimestep,
    /// DDIM: which noise a step keeps where x0 was brought back into range.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ddim_noise: DdimNoise,
    /// DDIM and PNDM: whether the last step ends at timestep 0 instead of at x0 itself; PNDM's does and DDIM's does not unless it
    /// says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_at_timestep_0: Option<bool>,
    /// LCM: whether a strength below 1 spreads all steps over the noise that it leaves, instead of skipping the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spreads_steps: bool,
    /// DDPM: how much noise a step adds, where the model does not tell; the smaller of both fixed ones unless it says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variance: Option<Variance>,
    /// `UniPC`: its order, 1 to 3; 2 unless it says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solver_order: Option<u32>,
    /// How the predicted picture is kept in range.
    pub thresholding: ThresholdingKind,
    /// Dynamic thresholding's quantile.
    pub threshold_quantile: f32,
    /// The most that dynamic thresholding divides by; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_cap: Option<f32>,
    /// Denoiser: `w_p`, 0 to 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_weight: Option<f32>,
    /// Denoiser: `w_n`, 0 to 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbour_weight: Option<f32>,
    /// Denoiser: share of text-enhanced steps, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interleave_ratio: Option<f32>,
    /// Denoiser: how text and neighbours guide together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_strategy: Option<StrategyKind>,
    /// Super-resolution: guidance weight, 0 to 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_weight: Option<f32>,
    /// Super-resolution: conditioning augmentation level, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_level: Option<f32>,
    /// What is different with other samplers than `sampler`, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub samplers: BTreeMap<SamplerKind, OtherSampler>,
}

/// Where a sampler's conventions differ from those of `[defaults]`: what is not set does not differ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherSampler {
    /// Why requests may not ask for it, if they may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestep_spacing: Option<TimestepSpacing>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_offset: Option<u32>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_levels: Option<Spacing>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_sigma: Option<FinalSigma>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variance: Option<Variance>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solver_order: Option<u32>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholding: Option<ThresholdingKind>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_quantile: Option<f32>,
    /// As in `[defaults]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_cap: Option<f32>,
}

impl OtherSampler {
    /// Where `other` differs from `own`.
    pub fn between(own: &Defaults, other: &Defaults) -> Self {
        fn new<T: PartialEq + Copy>(own: T, other: T) -> Option<T> {
            (own != other).then_some(other)
        }
        Self {
            unfit: None,
            timestep_spacing: new(own.timestep_spacing, other.timestep_spacing),
            steps_offset: new(own.steps_offset, other.steps_offset),
            noise_levels: new(own.noise_levels, other.noise_levels),
            final_sigma: new(own.final_sigma, other.final_sigma),
            variance: new(own.variance, other.variance).flatten(),
            solver_order: new(own.solver_order, other.solver_order).flatten(),
            thresholding: new(own.thresholding, other.thresholding),
            threshold_quantile: new(own.threshold_quantile, other.threshold_quantile),
            threshold_cap: new(own.threshold_cap, other.threshold_cap).flatten(),
        }
    }
}

impl Defaults {
    /// The same with `sampler` and its conventions.
    #[must_use]
    pub fn with_sampler(&self, sampler: SamplerKind) -> Self {
        let own = Self { sampler, ..self.clone() };
        let Some(other) = self.samplers.get(&sampler) else { return own };
        Self {
            timestep_spacing: other.timestep_spacing.unwrap_or(own.timestep_spacing),
            steps_offset: other.steps_offset.unwrap_or(own.steps_offset),
            noise_levels: other.noise_levels.unwrap_or(own.noise_levels),
            final_sigma: other.final_sigma.unwrap_or(own.final_sigma),
            variance: other.variance.or(own.variance),
            solver_order: other.solver_order.or(own.solver_order),
            thresholding: other.thresholding.unwrap_or(own.thresholding),
            threshold_quantile: other.threshold_quantile.unwrap_or(own.threshold_quantile),
            threshold_cap: other.threshold_cap.or(own.threshold_cap),
            ..own
        }
    }

    /// Why requests may not ask for `sampler`, if they may not.
    pub fn unfit(&self, sampler: SamplerKind) -> Option<&str> {
        self.samplers.get(&sampler)?.unfit.as_deref()
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        self.validate_own()?;
        if self.samplers.contains_key(&self.sampler) {
            return Err("defaults.samplers is for other samplers than defaults.sampler".to_owned());
        }
        self.samplers.keys().try_for_each(|sampler| self.with_sampler(*sampler).validate_own())
    }

    fn validate_own(&self) -> Result<(), String> {
        if self.steps == 0 {
            return Err("defaults.steps must be 1 to diffusion.train_timesteps".to_owned());
        }
        if !(self.threshold_quantile > 0.0 && self.threshold_quantile <= 1.0) {
            return Err("defaults.threshold_quantile must be above 0 and at most 1".to_owned());
        }
        if self.threshold_cap.is_some_and(|cap| cap.is_nan() || cap < 1.0) {
            return Err("defaults.threshold_cap must be at least 1".to_owned());
        }
        for (name, weight) in [
            ("defaults.text_weight", self.text_weight),
            ("defaults.neighbour_weight", self.neighbour_weight),
            ("defaults.guidance_weight", self.guidance_weight),
        ] {
            check(name, weight.as_slice(), 0.0..=MAX_WEIGHT)?;
        }
        check("defaults.interleave_ratio", self.interleave_ratio.as_slice(), 0.0..=1.0)?;
        check("defaults.noise_level", self.noise_level.as_slice(), 0.0..=1.0)?;
        if self.variance.is_some_and(Variance::is_learned) {
            return Err("defaults.variance is a fixed one; a learned one is a fact of [diffusion]".to_owned());
        }
        Ok(())
    }
}

/// How noise levels are spaced between the noisiest and the cleanest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Those of the timesteps visited.
    #[default]
    Trained,
    /// Evenly in sigma^(1/7) (Karras et al., 2022).
    Karras,
}

impl From<Spacing> for NoiseLevels {
    fn from(spacing: Spacing) -> Self {
        match spacing {
            Spacing::Trained => Self::Trained,
            Spacing::Karras => Self::Karras,
        }
    }
}

/// How text and neighbours guide together; see [`reverie_diffusion::guidance::Strategy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyKind {
    /// One of them at each step.
    Interleaved,
    /// Both at each step.
    Weighted,
    /// Both against neither.
    Joint,
}

fn next() -> PreviousTimestep {
    PreviousTimestep::Next
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_next(previous: &PreviousTimestep) -> bool {
    *previous == PreviousTimestep::Next
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(offset: &u32) -> bool {
    *offset == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
