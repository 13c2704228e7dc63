//! The scheduler classes of diffusers: what each is called, what it has settings for, and their defaults.

use std::collections::BTreeSet;

use reverie_diffusion::SamplerKind;
use serde_json::{Map, Value, json};

pub(super) const FLOW_MATCHING: &str = "FlowMatchEulerDiscreteScheduler";
/// The same noise levels, walked through by Heun's method.
pub(super) const FLOW_MATCHING_HEUN: &str = "FlowMatchHeunDiscreteScheduler";

pub(super) fn is_flow_matching(class: &str) -> bool {
    [FLOW_MATCHING, FLOW_MATCHING_HEUN].contains(&class)
}

/// The classes that are known.
pub(super) fn classes() -> BTreeSet<&'static str> {
    let of_betas = SamplerKind::ALL.map(SamplerKind::scheduler_class);
    of_betas.into_iter().chain([FLOW_MATCHING, FLOW_MATCHING_HEUN]).collect()
}

/// What the classes of diffusers 0.39 take, with their defaults. As there, a setting that a class does not take is nothing to it.
pub(super) fn defaults_of(class: &str) -> Option<Map<String, Value>> {
    let of_betas = json!({
        "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
        "trained_betas": null, "prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0,
    });
    let threshold = json!({
        "thresholding": false, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0,
    });
    let sigmas = json!({
        "use_karras_sigmas": false, "use_exponential_sigmas": false, "use_beta_sigmas": false,
    });
    let sampler = SamplerKind::ALL.into_iter().find(|kind| kind.scheduler_class() == class);
    let parts = match sampler {
        Some(SamplerKind::Ddim) => vec![
            of_betas,
            threshold,
            json!({
                "timestep_spacing": "leading", "clip_sample": true, "clip_sample_range": 1.0,
                "rescale_betas_zero_snr": false,
            }),
        ],
        Some(SamplerKind::Ddpm) => vec![
            of_betas,
            threshold,
            json!({
                "timestep_spacing": "leading", "clip_sample": true, "clip_sample_range": 1.0, "variance_type": "fixed_small",
                "rescale_betas_zero_snr": false,
            }),
        ],
        Some(SamplerKind::Pndm | SamplerKind::Plms) => {
            vec![of_betas, json!({"timestep_spacing": "leading", "skip_prk_steps": false})]
        }
        Some(SamplerKind::Lcm) => vec![
            of_betas,
            threshold,
            json!({
                "timestep_spacing": "leading", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
                "original_inference_steps": 50, "clip_sample": false, "clip_sample_range": 1.0,
                "timestep_scaling": 10.0, "rescale_betas_zero_snr": false,
            }),
        ],
        Some(SamplerKind::Euler) => vec![
            of_betas,
            sigmas,
            json!({
                "interpolation_type": "linear", "sigma_min": null, "sigma_max": null, "timestep_type": "discrete",
                "rescale_betas_zero_snr": false, "final_sigmas_type": "zero",
            }),
        ],
        Some(SamplerKind::EulerAncestral) => vec![of_betas, json!({"rescale_betas_zero_snr": false})],
        Some(SamplerKind::Heun) => vec![
            of_betas,
            sigmas,
            json!({
                "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": false, "clip_sample_range": 1.0,
            }),
        ],
        Some(SamplerKind::DpmSolver | SamplerKind::DpmSolverSde) => vec![
            of_betas,
            threshold,
            sigmas,
            json!({
                "solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint", "lower_order_final": true,
                "euler_at_final": false, "use_lu_lambdas": false, "use_flow_sigmas": false, "final_sigmas_type": "zero",
                "lambda_min_clipped": null, "rescale_betas_zero_snr": false, "use_dynamic_shifting": false,
                "flow_shift": 1.0, "time_shift_type": "exponential",
            }),
        ],
        Some(SamplerKind::UniPc) => vec![
            of_betas,
            threshold,
            sigmas,
            json!({
                "solver_order": 2, "predict_x0": true, "solver_type": "bh2", "lower_order_final": true,
                "disable_corrector": [], "use_flow_sigmas": false, "final_sigmas_type": "zero", "sigma_min": null,
                "sigma_max": null, "rescale_betas_zero_snr": false, "use_dynamic_shifting": false, "shift_terminal": null,
                "flow_shift": 1.0, "time_shift_type": "exponential", "solver_p": null,
            }),
        ],
        None if class == FLOW_MATCHING_HEUN => vec![json!({"num_train_timesteps": 1000, "shift": 1.0})],
        None if class == FLOW_MATCHING => vec![
            sigmas,
            json!({
                "num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": false, "base_shift": 0.5, "max_shift": 1.15,
                "base_image_seq_len": 256, "max_image_seq_len": 4096, "invert_sigmas": false, "shift_terminal": null,
                "time_shift_type": "exponential", "stochastic_sampling": false,
            }),
        ],
        None => return None,
    };
    Some(parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect())
}

/// What the class of a sampler has to be told to sample like this.
pub(super) fn setting_of(sampler: SamplerKind) -> Option<(&'static str, Value)> {
    match sampler {
        SamplerKind::DpmSolver => Some(("algorithm_type", json!("dpmsolver++"))),
        SamplerKind::DpmSolverSde => Some(("algorithm_type", json!("sde-dpmsolver++"))),
        SamplerKind::Pndm => Some(("skip_prk_steps", json!(false))),
        SamplerKind::Plms => Some(("skip_prk_steps", json!(true))),
        _ => None,
    }
}

/// Classes that are not served and whose models any sampler but LCM samples: they too were trained with the noise
/// of betas.
pub(super) const REPLACEABLE: [&str; 9] = [
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "SASolverScheduler",
];

/// How a pipeline mends the configuration of its scheduler when it is loaded (diffusers 0.39, `__init__`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mending {
    /// Not at all.
    None,
    /// Stable Diffusion: leading timesteps have an offset of 1, and latents are not clipped.
    StableDiffusion,
    /// Stable Diffusion that inpaints: the offset, and PNDM without Runge-Kutta.
    Inpainting,
}

impl Mending {
    /// Of a pipeline's class.
    pub(crate) fn of(class: &str) -> Self {
        match class {
            "StableDiffusionInpaintPipeline" => Self::Inpainting,
            "StableDiffusionPipeline" | "StableDiffusionImg2ImgPipeline" => Self::StableDiffusion,
            _ => Self::None,
        }
    }

    /// What it writes where something else stands.
    pub(super) fn settings(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::None => vec![],
            Self::StableDiffusion => vec![("steps_offset", json!(1)), ("clip_sample", json!(false))],
            Self::Inpainting => vec![("steps_offset", json!(1)), ("skip_prk_steps", json!(true))],
        }
    }
}

/// Keys of the configuration that are none of a class: where it came from, and what other classes of diffusers have.
pub(super) const INERT: [&str; 9] = [
    "_class_name",
    "_diffusers_version",
    "_name_or_path",
    "_use_default_values",
    "set_alpha_to_one",
    "sigma_data",
    "sigma_schedule",
    "rho",
    "solver_type",
];
