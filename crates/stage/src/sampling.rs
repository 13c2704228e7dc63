//! The sampler that a request asks for, checked, with the model's defaults for what it leaves open.

use reverie_diffusion::{
    Method, NoiseLevels, SamplerError, SamplerKind, SamplerSettings, Thresholding, ThresholdingKind,
    TimestepSpacing,
};
use reverie_packages::package::{Defaults, DiffusionFacts};
use reverie_proto::diffusion::v1 as wire;
use reverie_proto::names::Named as _;
use reverie_service_kit::Violations;

/// Most steps that a request may ask for; a model's schedule may allow fewer.
const MAX_STEPS: u32 = 1000;

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
    let kind = match wire::Sampler::try_from(sampling.sampler) {
        Ok(wire::Sampler::Unspecified) => Some(defaults.sampler),
        Ok(sampler) => SamplerKind::named(&sampler.name()),
        Err(_) => None,
    };
    let kind = kind.unwrap_or_else(|| {
        violations.add("sampling.sampler", format!("{} is no sampler that is known here", sampling.sampler));
        defaults.sampler
    });
    if let Some(why) = defaults.unfit(kind) {
        violations.add("sampling.sampler", format!("does not fit this model: {why}"));
    }
    let defaults = &defaults.with_sampler(kind);
    let thresholding = match wire::Thresholding::try_from(sampling.thresholding) {
        Ok(wire::Thresholding::Unspecified) => defaults.thresholding,
        Ok(wire::Thresholding::None) => ThresholdingKind::None,
        Ok(wire::Thresholding::Static) => ThresholdingKind::Static,
        Ok(wire::Thresholding::Dynamic) => ThresholdingKind::Dynamic,
        Err(_) => {
            violations.add("sampling.thresholding", format!("{} is not known here", sampling.thresholding));
            defaults.thresholding
        }
    };
    let most = MAX_STEPS.min(facts.train_timesteps);
    let steps = violations.in_range("sampling.steps", sampling.steps, defaults.steps, 1, most);
    let ddim_eta = violations.in_range("sampling.ddim_eta", sampling.ddim_eta, 0.0, 0.0, 1.0);
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
    let levels = noise_levels(violations, sampling.noise_levels, kind, own_levels, defaults);
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
    let names = SamplerKind::ALL.into_iter().filter(|kind| are(*kind)).map(|kind| kind.name().to_uppercase());
    names.collect::<Vec<_>>().join(", ")
}

/// The noise levels to step through: the model's own where it is bound to some, then those that were asked for.
fn noise_levels(
    violations: &mut Violations,
    asked: i32,
    kind: SamplerKind,
    own: Option<NoiseLevels>,
    defaults: &Defaults,
) -> NoiseLevels {
    let mut require = |fits: bool, why: &str| violations.require(fits, "sampling.noise_levels", why);
    let in_sigma = kind.is_in_sigma();
    let default = if in_sigma { defaults.noise_levels.into() } else { NoiseLevels::Trained };
    let levels = match wire::NoiseLevels::try_from(asked) {
        Ok(wire::NoiseLevels::Unspecified) => default,
        Ok(wire::NoiseLevels::Trained) => NoiseLevels::Trained,
        Ok(wire::NoiseLevels::Karras) => {
            let why = format!("is only for samplers in sigma: {}", those(SamplerKind::is_in_sigma));
            require(in_sigma, &why);
            require(own.is_none(), "does not fit this model, which has noise levels of its own");
            if in_sigma { NoiseLevels::Karras } else { default }
        }
        Err(_) => {
            require(false, &format!("{asked} is not known here"));
            default
        }
    };
    own.unwrap_or(levels)
}

/// The field of a request that makes `error`.
pub fn field_of(error: &SamplerError) -> &'static str {
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
