//! A scheduler's configuration, read as its class reads it.

use std::collections::BTreeMap;
use std::fmt::Display;

use reverie_diffusion::{
    BetaSchedule, DdimNoise, FinalSigma, PredictionType, PreviousTimestep, SamplerKind, ThresholdingKind,
    TimestepSpacing, Variance,
};
use reverie_packages::package::{Defaults, LearnedVariance, Spacing};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::classes::{FLOW_MATCHING, FLOW_MATCHING_HEUN, defaults_of, is_flow_matching};
use super::{FlowConfig, Scheduler};
use crate::keys::{Held, short};

/// What a configuration says, with the defaults of its class for what it leaves out. What the class has not is not set.
#[derive(Deserialize)]
pub(super) struct Config {
    num_train_timesteps: u32,
    prediction_type: Option<PredictionType>,
    beta_schedule: Option<String>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    trained_betas: Option<Value>,
    rescale_betas_zero_snr: Option<bool>,
    timestep_spacing: Option<TimestepSpacing>,
    steps_offset: Option<u32>,
    skip_prk_steps: Option<bool>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f64>,
    thresholding: Option<bool>,
    dynamic_thresholding_ratio: Option<f32>,
    sample_max_value: Option<f32>,
    variance_type: Option<String>,
    original_inference_steps: Option<u32>,
    timestep_scaling: Option<f64>,
    algorithm_type: Option<String>,
    solver_order: Option<u32>,
    solver_type: Option<String>,
    predict_x0: Option<bool>,
    solver_p: Option<Value>,
    lower_order_final: Option<bool>,
    final_sigmas_type: Option<FinalSigma>,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    use_flow_sigmas: Option<bool>,
    use_lu_lambdas: Option<bool>,
    euler_at_final: Option<bool>,
    disable_corrector: Option<Vec<u32>>,
    lambda_min_clipped: Option<f64>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
    timestep_type: Option<String>,
    interpolation_type: Option<String>,
    shift: Option<f64>,
    use_dynamic_shifting: Option<bool>,
    base_shift: Option<f64>,
    max_shift: Option<f64>,
    base_image_seq_len: Option<f64>,
    max_image_seq_len: Option<f64>,
    invert_sigmas: Option<bool>,
    shift_terminal: Option<f64>,
    time_shift_type: Option<String>,
    stochastic_sampling: Option<bool>,
}

/// Sets each of `settings` to what `config` says of it, if that is of the same kind: a number, a text, true or false.
pub(super) fn fill(settings: &mut Map<String, Value>, config: &Map<String, Value>) -> Result<(), String> {
    for (key, setting) in settings {
        let Some(given) = config.get(key) else { continue };
        let what = match (&*setting, given) {
            // Python takes nothing for false.
            (Value::Bool(_), Value::Null) => {
                *setting = json!(false);
                continue;
            }
            (Value::Null, _)
            | (Value::Bool(_), Value::Bool(_))
            | (Value::Number(_), Value::Number(_))
            | (Value::String(_), Value::String(_))
            | (Value::Array(_), Value::Array(_) | Value::Null) => {
                setting.clone_from(given);
                continue;
            }
            (Value::Bool(_), _) => bool::WHAT,
            (Value::Number(_), _) => f64::WHAT,
            (Value::String(_), _) => String::WHAT,
            _ => "a list",
        };
        return Err(format!("{key} must be {what}, {setting} for one (got {})", short(given)));
    }
    Ok(())
}

/// The settings as their types have them; what is of no such type is named.
pub(super) fn typed(settings: &Map<String, Value>) -> Result<Config, String> {
    let whole = serde_json::from_value(Value::Object(settings.clone()));
    whole.map_err(|error| {
        let one = |key: &str| {
            let value = settings.get(key).cloned().unwrap_or_default();
            let alone =
                Map::from_iter([("num_train_timesteps".to_owned(), json!(1)), (key.to_owned(), value)]);
            serde_json::from_value::<Config>(Value::Object(alone)).err()
        };
        let wrong = settings.iter().find_map(|(key, value)| Some((key, value, one(key)?)));
        match wrong {
            Some((key, value, error)) => {
                format!("{key} is not one that is known (got {}): {error}", short(value))
            }
            None => error.to_string(),
        }
    })
}

/// What is read of a variance that a graph gives besides its prediction: a pipeline splits it off unless its scheduler has
/// learned to read it.
pub(super) fn learned_variance(variance_type: Option<&Value>) -> Result<LearnedVariance, String> {
    match variance_type.unwrap_or(&Value::Null) {
        Value::Null => Ok(LearnedVariance::Unread),
        Value::String(name) => match name.as_str() {
            "learned" => Ok(LearnedVariance::Learned),
            "learned_range" => Ok(LearnedVariance::LearnedRange),
            "fixed_small" | "fixed_small_log" | "fixed_large" | "fixed_large_log" => {
                Ok(LearnedVariance::Unread)
            }
            _ => Err(unknown_variance(name)),
        },
        other => Err(unknown_variance(other)),
    }
}

fn unknown_variance(given: impl Display) -> String {
    format!(
        "variance_type must be fixed_small, fixed_small_log, fixed_large, fixed_large_log, learned or learned_range, not {given}"
    )
}

/// What to do about a setting that is not served.
fn way_forward(class: &str, key: &str) -> String {
    if key == "use_flow_sigmas" {
        return format!(
            "{key} must be false: models of flow matching are served with {FLOW_MATCHING}. Write that class, with flow_shift as its \
             shift, and choose the sampler when importing (--sampler)"
        );
    }
    let default = defaults_of(class).and_then(|settings| settings.get(key).cloned()).unwrap_or_default();
    let others = ["ddim", "euler", "dpmpp-2m"].into_iter().zip([
        "DDIMScheduler",
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
    ]);
    let lacks = |class: &str| defaults_of(class).is_some_and(|settings| !settings.contains_key(key));
    let other = others.into_iter().find(|(_, other)| !is_flow_matching(class) && lacks(other));
    let other = other
        .map(|(name, _)| format!(", or choose a sampler without it (--sampler {name})"))
        .unwrap_or_default();
    format!(
        "{key} must be {default}, anything else is not served: set it so{other}; pictures differ from those of diffusers then"
    )
}

impl Config {
    /// A setting of it that is not served, if one is not.
    fn unsupported(&self, class: &str) -> Option<&'static str> {
        let is = |setting: Option<bool>| setting == Some(true);
        let is_other =
            |setting: &Option<String>, known: &str| setting.as_deref().is_some_and(|of| of != known);
        let is_far = |setting: Option<f64>, known: f64| setting.is_some_and(|of| (of - known).abs() > 1e-9);
        let is_flow = is_flow_matching(class);
        let multistep = ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"].contains(&class);
        let is_unipc = class == "UniPCMultistepScheduler" && self.solver_order != Some(1);
        let ends_with_noise = self.final_sigmas_type == Some(FinalSigma::SigmaMin);
        let unknown = [
            (self.trained_betas.is_some(), "trained_betas"),
            (is(self.use_karras_sigmas) && is_flow, "use_karras_sigmas"),
            (is(self.use_exponential_sigmas), "use_exponential_sigmas"),
            (is(self.use_beta_sigmas), "use_beta_sigmas"),
            (is(self.use_flow_sigmas), "use_flow_sigmas"),
            (is(self.use_lu_lambdas), "use_lu_lambdas"),
            (is(self.use_dynamic_shifting) && multistep, "use_dynamic_shifting"),
            // The step to no noise is of first order as it is.
            (is(self.euler_at_final) && ends_with_noise, "euler_at_final"),
            (self.lambda_min_clipped.is_some_and(|lambda| lambda > -1e9), "lambda_min_clipped"),
            (self.sigma_min.is_some(), "sigma_min"),
            (self.sigma_max.is_some(), "sigma_max"),
            (self.disable_corrector.as_ref().is_some_and(|steps| !steps.is_empty()), "disable_corrector"),
            (self.predict_x0 == Some(false), "predict_x0"),
            (self.solver_p.is_some(), "solver_p"),
            (self.lower_order_final == Some(false) && (ends_with_noise || is_unipc), "lower_order_final"),
            (is(self.invert_sigmas), "invert_sigmas"),
            (is(self.stochastic_sampling), "stochastic_sampling"),
            (self.shift_terminal.is_some(), "shift_terminal"),
            (is_other(&self.timestep_type, "discrete"), "timestep_type"),
            (is_other(&self.interpolation_type, "linear"), "interpolation_type"),
            (is_other(&self.time_shift_type, "exponential"), "time_shift_type"),
            (is_far(self.timestep_scaling, 10.0), "timestep_scaling"),
            (is(self.clip_sample) && is_far(self.clip_sample_range, 1.0), "clip_sample_range"),
            // x is then not at the noise level that the model is told; it is brought to leading timesteps here.
            (
                self.skip_prk_steps.is_some() && self.timestep_spacing != Some(TimestepSpacing::Leading),
                "timestep_spacing",
            ),
        ];
        unknown.into_iter().find(|(is_set, _)| *is_set).map(|(_, name)| name)
    }

    fn sampler(&self, class: &str) -> Result<SamplerKind, String> {
        let (order, type_) = (self.solver_order.unwrap_or_default(), self.solver_type.as_deref());
        // Types of other multistep classes are taken for the class's own default, as in diffusers.
        let types = ["midpoint", "heun", "logrho", "bh1", "bh2"];
        let is_or_foreign = |own: &str, refused: &str| {
            type_ == Some(own) || type_.is_some_and(|given| given != refused && types.contains(&given))
        };
        Ok(match class {
            "DDIMScheduler" => SamplerKind::Ddim,
            "DDPMScheduler" => SamplerKind::Ddpm,
            "PNDMScheduler" if self.skip_prk_steps == Some(true) => SamplerKind::Plms,
            "PNDMScheduler" => SamplerKind::Pndm,
            "LCMScheduler" => SamplerKind::Lcm,
            "EulerDiscreteScheduler" | FLOW_MATCHING => SamplerKind::Euler,
            "EulerAncestralDiscreteScheduler" => SamplerKind::EulerAncestral,
            "HeunDiscreteScheduler" | FLOW_MATCHING_HEUN => SamplerKind::Heun,
            "DPMSolverMultistepScheduler" if order != 2 => {
                return Err(format!(
                    "solver_order {order} is not served, only 2; or choose another sampler (--sampler)"
                ));
            }
            "DPMSolverMultistepScheduler" if !is_or_foreign("midpoint", "heun") => {
                return Err("solver_type is not served, only midpoint".to_owned());
            }
            "DPMSolverMultistepScheduler" => match self.algorithm_type.as_deref() {
                Some("dpmsolver++" | "deis") => SamplerKind::DpmSolver,
                Some("sde-dpmsolver++") => SamplerKind::DpmSolverSde,
                _ => {
                    return Err(
                        "algorithm_type is not served, only dpmsolver++ and sde-dpmsolver++".to_owned()
                    );
                }
            },
            _ if !(1..=3).contains(&order) => return Err("solver_order must be 1 to 3".to_owned()),
            _ if !is_or_foreign("bh2", "bh1") => return Err("solver_type is not served, only bh2".to_owned()),
            _ => SamplerKind::UniPc,
        })
    }

    pub(super) fn read(&self, class: &str) -> Result<Scheduler, String> {
        if let Some(key) = self.unsupported(class) {
            return Err(way_forward(class, key));
        }
        self.check_ranges()?;
        let sampler = self.sampler(class)?;
        let is_flow = is_flow_matching(class);
        let prediction = match self.prediction_type {
            None if is_flow => PredictionType::FlowPrediction,
            None => {
                return Err("prediction_type must be epsilon, sample or v_prediction (got null)".to_owned());
            }
            Some(PredictionType::FlowPrediction) => {
                return Err(
                    "prediction_type flow_prediction is served with flow-matching Euler only".to_owned()
                );
            }
            Some(prediction) => prediction,
        };
        let thresholding = match (self.thresholding, self.clip_sample) {
            (Some(true), _) => ThresholdingKind::Dynamic,
            (_, Some(true)) => ThresholdingKind::Static,
            _ => ThresholdingKind::None,
        };
        Ok(Scheduler {
            train_timesteps: self.num_train_timesteps,
            prediction,
            betas: if is_flow { None } else { Some(self.betas()?) },
            zero_terminal_snr: self.rescale_betas_zero_snr.unwrap_or_default(),
            distilled_steps: self.original_inference_steps,
            learned_variance: LearnedVariance::Unread,
            flow: is_flow.then(|| FlowConfig {
                shift: self.shift.unwrap_or(1.0),
                dynamic: self.use_dynamic_shifting.unwrap_or_default(),
                base_shift: self.base_shift.unwrap_or_default(),
                max_shift: self.max_shift.unwrap_or_default(),
                base_tokens: self.base_image_seq_len.unwrap_or_default(),
                max_tokens: self.max_image_seq_len.unwrap_or_default(),
            }),
            defaults: Defaults {
                sampler,
                steps: 50,
                timestep_spacing: self.timestep_spacing.unwrap_or(TimestepSpacing::Linspace),
                steps_offset: self.steps_offset.unwrap_or_default(),
                noise_levels: match self.use_karras_sigmas {
                    Some(true) => Spacing::Karras,
                    _ => Spacing::Trained,
                },
                final_sigma: self.final_sigmas_type.unwrap_or_default(),
                previous_timestep: PreviousTimestep::Stride,
                ddim_noise: DdimNoise::OfOutput,
                end_at_timestep_0: None,
                spreads_steps: false,
                variance: match self.variance_type.as_deref() {
                    Some("fixed_large" | "fixed_large_log") => Some(Variance::FixedLarge),
                    _ => None,
                },
                solver_order: self.solver_order.filter(|_| sampler == SamplerKind::UniPc),
                thresholding,
                threshold_quantile: self.dynamic_thresholding_ratio.unwrap_or(0.995),
                threshold_cap: self.sample_max_value.filter(|_| thresholding == ThresholdingKind::Dynamic),
                text_weight: None,
                neighbour_weight: None,
                interleave_ratio: None,
                guidance_strategy: None,
                guidance_weight: None,
                noise_level: None,
                samplers: BTreeMap::new(),
            },
        })
    }

    /// Refuses numbers that no schedule can have.
    fn check_ranges(&self) -> Result<(), String> {
        let among = |key: &str, given: Option<f64>, is_right: fn(f64) -> bool, must: &str| match given {
            Some(given) if !is_right(given) => Err(format!("{key} must be {must} (got {given})")),
            _ => Ok(()),
        };
        let steps = f64::from(self.num_train_timesteps);
        among("num_train_timesteps", Some(steps), |of| (1.0..=100_000.0).contains(&of), "1 to 100000")?;
        if self.original_inference_steps.is_some_and(|of| !(1..=self.num_train_timesteps).contains(&of)) {
            return Err("original_inference_steps must be 1 to num_train_timesteps".to_owned());
        }
        let ratio = self.dynamic_thresholding_ratio.map(f64::from);
        among("dynamic_thresholding_ratio", ratio, |of| of > 0.0 && of <= 1.0, "above 0 and at most 1")?;
        if self.thresholding == Some(true) {
            among("sample_max_value", self.sample_max_value.map(f64::from), |of| of >= 1.0, "at least 1")?;
        }
        among("shift", self.shift, |of| of > 0.0, "above 0")?;
        if self.use_dynamic_shifting == Some(true) && self.base_image_seq_len == self.max_image_seq_len {
            return Err("max_image_seq_len must differ from base_image_seq_len".to_owned());
        }
        if self.rescale_betas_zero_snr == Some(true) && self.prediction_type == Some(PredictionType::Epsilon)
        {
            return Err("rescale_betas_zero_snr must be false: a model that predicts epsilon cannot start from pure noise".to_owned());
        }
        Ok(())
    }

    fn betas(&self) -> Result<(BetaSchedule, f64, f64), String> {
        let schedule = match self.beta_schedule.as_deref() {
            Some("linear") => BetaSchedule::Linear,
            Some("scaled_linear") => BetaSchedule::ScaledLinear,
            Some("squaredcos_cap_v2") => BetaSchedule::SquaredcosCapV2,
            Some("sigmoid") => BetaSchedule::Sigmoid,
            other => return Err(format!("beta_schedule {} is not known here", other.unwrap_or("null"))),
        };
        let (start, end) =
            self.beta_start.zip(self.beta_end).ok_or("beta_start and beta_end must be numbers")?;
        Ok((schedule, start, end))
    }
}
