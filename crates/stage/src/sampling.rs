//! The sampler that a request asks for, checked, with the model's defaults for what it leaves open.

use reverie_diffusion::{
    Method, NoiseLevels, NoiseSchedule, Sampler, SamplerError, SamplerKind, SamplerSettings, Thresholding,
    ThresholdingKind, TimestepSpacing,
};
use reverie_packages::package::{Defaults, DiffusionFacts};
use reverie_proto::diffusion::v1 as wire;
use reverie_proto::limits::STEPS;
use reverie_proto::names::Named as _;
use reverie_service_kit::{Violations, ranges};

/// What requests may ask of a model's sampling, for its callers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The samplers that fit it.
    pub samplers: Vec<i32>,
    /// The most steps.
    pub max_steps: u32,
    /// The sampling of a request that asks for none.
    pub default: wire::Sampling,
}

impl Offer {
    /// What a model offers for x of the extents `sample`. Every sampler is tried.
    pub fn of(facts: &DiffusionFacts, defaults: &Defaults, sample: [usize; 3]) -> Self {
        let fits = |sampler: &wire::Sampler| {
            let asked = wire::Sampling { sampler: (*sampler).into(), ..wire::Sampling::default() };
            let mut violations = Violations::new();
            settings(&mut violations, Some(&asked), facts, defaults, sample);
            violations.into_result().is_ok()
        };
        let thresholding = match defaults.thresholding {
            ThresholdingKind::None => wire::Thresholding::None,
            ThresholdingKind::Static => wire::Thresholding::Static,
            ThresholdingKind::Dynamic => wire::Thresholding::Dynamic,
        };
        Self {
            samplers: wire::Sampler::all().into_iter().filter(fits).map(i32::from).collect(),
            max_steps: facts.train_timesteps.min(*STEPS.end()),
            default: wire::Sampling {
                sampler: wire::Sampler::named(defaults.sampler.name()).unwrap_or_default().into(),
                steps: Some(defaults.steps),
                thresholding: thresholding.into(),
                ..wire::Sampling::default()
            },
        }
    }
}

/// The sampler of these settings, which [`settings`] reads; what cannot be is told by the field that it is about.
pub fn sampler(
    violations: &mut Violations,
    schedule: &NoiseSchedule,
    settings: &SamplerSettings,
) -> Option<Sampler> {
    let sampler = Sampler::new(schedule, settings);
    let wrong = sampler.as_ref().map_or_else(field_of, |_| "sampling");
    violations.take(wrong, sampler)
}

/// Reads `sampling` (a field of that name), for x of the extents `sample`; what is not set is the model's default. All steps
/// are taken.
pub fn settings(
    violations: &mut Violations,
    sampling: Option<&wire::Sampling>,
    facts: &DiffusionFacts,
    defaults: &Defaults,
    sample: [usize; 3],
) -> SamplerSettings {
    let unset = wire::Sampling::default();
    let sampling = sampling.unwrap_or(&unset);
    let sampling = ranges::sampling(violations, "sampling", sampling);
    let kind = match sampling.sampler() {
        wire::Sampler::Unspecified => None,
        sampler => SamplerKind::named(&sampler.name()),
    };
    let kind = kind.unwrap_or(defaults.sampler);
    if let Some(why) = defaults.unfit(kind) {
        violations.add("sampling.sampler", format!("does not fit this model: {why}"));
    }
    let defaults = &defaults.with_sampler(kind);
    let thresholding = match sampling.thresholding() {
        wire::Thresholding::Unspecified => defaults.thresholding,
        wire::Thresholding::None => ThresholdingKind::None,
        wire::Thresholding::Static => ThresholdingKind::Static,
        wire::Thresholding::Dynamic => ThresholdingKind::Dynamic,
    };
    let steps = violations.in_range("sampling.steps", sampling.steps, 1..=facts.train_timesteps);
    let steps = steps.unwrap_or(defaults.steps);
    let ddim_eta = sampling.ddim_eta.unwrap_or(0.0);
    violations.require(
        sampling.ddim_eta.is_none() || kind == SamplerKind::Ddim,
        "sampling.ddim_eta",
        "is only for the sampler DDIM",
    );
    let thresholding = match thresholding {
        ThresholdingKind::None => Thresholding::None,
        ThresholdingKind::Static => Thresholding::Static,
        ThresholdingKind::Dynamic => {
            Thresholding::Dynamic { quantile: defaults.threshold_quantile, cap: defaults.threshold_cap }
        }
    };
    violations.require(
        kind != SamplerKind::Lcm || facts.distilled_steps.is_some(),
        "sampling.sampler",
        "is only for models distilled to few steps, which this one is not",
    );
    let own_levels = facts.own_levels(sample);
    violations.require(
        own_levels.is_none() || kind.fits_flow(),
        "sampling.sampler",
        format!(
            "does not fit this model, which was trained by flow matching: {} do",
            those(SamplerKind::fits_flow)
        ),
    );
    let at_x0 = |own: bool| defaults.end_at_timestep_0.map_or(own, |at_0| !at_0);
    let method = match Method::from(kind) {
        Method::Ddim { set_alpha_to_one, .. } => Method::Ddim {
            eta: ddim_eta,
            set_alpha_to_one: at_x0(set_alpha_to_one),
            previous: defaults.previous_timestep,
            noise: defaults.ddim_noise,
        },
        Method::Ddpm { variance } => {
            Method::Ddpm { variance: facts.own_variance().or(defaults.variance).unwrap_or(variance) }
        }
        Method::Pndm { runge_kutta, set_alpha_to_one } => {
            Method::Pndm { runge_kutta, set_alpha_to_one: at_x0(set_alpha_to_one) }
        }
        Method::UniPc { order } => Method::UniPc { order: defaults.solver_order.unwrap_or(order) },
        Method::Lcm { .. } => Method::Lcm {
            original_steps: facts.distilled_steps.unwrap_or(facts.train_timesteps),
            spreads_steps: defaults.spreads_steps,
        },
        method => method,
    };
    let spacing = match method {
        // By strides of T / N, which only leading timesteps are apart.
        Method::Pndm { .. } => TimestepSpacing::Leading,
        _ => defaults.timestep_spacing,
    };
    let levels = noise_levels(violations, sampling.noise_levels(), kind, own_levels, defaults);
    SamplerSettings {
        method,
        steps,
        spacing,
        steps_offset: defaults.steps_offset,
        levels,
        final_sigma: defaults.final_sigma,
        prediction: facts.prediction_type,
        thresholding,
        ..SamplerSettings::default()
    }
}

/// The samplers that `are` so, as requests name them.
fn those(are: fn(SamplerKind) -> bool) -> String {
    SamplerKind::names(are).to_uppercase()
}

/// The noise levels to step through: the model's own where it is bound to some, then those that were asked for.
fn noise_levels(
    violations: &mut Violations,
    asked: wire::NoiseLevels,
    kind: SamplerKind,
    own: Option<NoiseLevels>,
    defaults: &Defaults,
) -> NoiseLevels {
    let mut require = |fits: bool, why: &str| violations.require(fits, "sampling.noise_levels", why);
    let in_sigma = kind.is_in_sigma();
    let default = if in_sigma { defaults.noise_levels.into() } else { NoiseLevels::Trained };
    let levels = match asked {
        wire::NoiseLevels::Unspecified => default,
        wire::NoiseLevels::Trained => NoiseLevels::Trained,
        wire::NoiseLevels::Karras => {
            let why = format!("is only for samplers in sigma: {}", those(SamplerKind::is_in_sigma));
            require(in_sigma, &why);
            require(own.is_none(), "does not fit this model, which has noise levels of its own");
            if in_sigma { NoiseLevels::Karras } else { default }
        }
    };
    own.unwrap_or(levels)
}

/// The field of a request that makes `error`.
fn field_of(error: &SamplerError) -> &'static str {
    match error {
        SamplerError::Strength(_) | SamplerError::NoSteps { .. } => "initial.strength",
        SamplerError::Timesteps(_) | SamplerError::RungeKuttaSteps(_) | SamplerError::LcmSteps { .. } => {
            "sampling.steps"
        }
        SamplerError::Threshold(_) => "sampling.thresholding",
        SamplerError::DdimEta(_) => "sampling.ddim_eta",
        SamplerError::Order(_)
        | SamplerError::TrainedLevelsOnly(_)
        | SamplerError::NotForFlow(_)
        | SamplerError::NotFinite { .. }
        | SamplerError::Levels(_)
        | SamplerError::Prediction { .. }
        | SamplerError::NoSignal(_) => "sampling.sampler",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_names_the_samplers_there_are() {
        let asked: Vec<_> = wire::Sampler::all().into_iter().map(reverie_proto::names::Named::name).collect();
        for name in &asked {
            assert!(SamplerKind::named(name).is_some(), "{name} is no sampler");
        }
        for kind in SamplerKind::ALL {
            assert!(asked.iter().any(|name| name == kind.name()), "{} cannot be asked for", kind.name());
        }
    }
}
