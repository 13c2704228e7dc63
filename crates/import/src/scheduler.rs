//! The scheduler of a pipeline: what it says of the model's training, and how it samples.
//!
//! A configuration holds what someone thought of writing down, and what it had when it was another class's. As in diffusers, the
//! class decides what counts, and has defaults for the rest.

use std::collections::BTreeMap;
use std::fmt::Display;

use reverie_diffusion::{
    BetaSchedule, DdimNoise, FinalSigma, PredictionType, PreviousTimestep, SamplerKind, ThresholdingKind,
    TimestepSpacing, Variance,
};
use reverie_packages::package::{Defaults, DiffusionFacts, Flow, LearnedVariance, OtherSampler, Spacing};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ImportError;
use crate::keys::{Held, Keys, short};
use crate::pipeline::{Family, Pipeline};
use crate::source::Source;

/// What a scheduler says.
#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    pub(crate) train_timesteps: u32,
    pub(crate) prediction: PredictionType,
    betas: Option<(BetaSchedule, f64, f64)>,
    zero_terminal_snr: bool,
    distilled_steps: Option<u32>,
    /// What is read of a variance that the graph gives, if it gives one.
    learned_variance: LearnedVariance,
    flow: Option<FlowConfig>,
    pub(crate) defaults: Defaults,
}

/// How a flow-matching scheduler shifts its noise levels.
#[derive(Debug, Clone, Copy)]
struct FlowConfig {
    shift: f64,
    dynamic: bool,
    base_shift: f64,
    max_shift: f64,
    base_tokens: f64,
    max_tokens: f64,
}

/// How the tokens of a picture follow from x, which a dynamic shift depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tokens {
    /// x is given as tokens, by a pipeline that passes on the noise levels itself (FLUX).
    Given,
    /// The model makes them, of squares of that side; the noise levels are left to the scheduler (SD3).
    Made(usize),
}

/// What a configuration says, with the defaults of its class for what it leaves out. What the class has not is not set.
#[derive(Deserialize)]
struct Config {
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

const FLOW_MATCHING: &str = "FlowMatchEulerDiscreteScheduler";
/// The same noise levels, walked through by Heun's method.
const FLOW_MATCHING_HEUN: &str = "FlowMatchHeunDiscreteScheduler";

fn is_flow_matching(class: &str) -> bool {
    [FLOW_MATCHING, FLOW_MATCHING_HEUN].contains(&class)
}

/// The classes that are known.
const CLASSES: [&str; 11] = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LCMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    FLOW_MATCHING,
    FLOW_MATCHING_HEUN,
];

/// What the classes of diffusers 0.39 take, with their defaults. As there, a setting that a class does not take is nothing to it.
fn defaults_of(class: &str) -> Option<Map<String, Value>> {
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
    let parts = match class {
        "DDIMScheduler" => vec![
            of_betas,
            threshold,
            json!({
                "timestep_spacing": "leading", "clip_sample": true, "clip_sample_range": 1.0,
                "rescale_betas_zero_snr": false,
            }),
        ],
        "DDPMScheduler" => vec![
            of_betas,
            threshold,
            json!({
                "timestep_spacing": "leading", "clip_sample": true, "clip_sample_range": 1.0, "variance_type": "fixed_small",
                "rescale_betas_zero_snr": false,
            }),
        ],
        "PNDMScheduler" => vec![of_betas, json!({"timestep_spacing": "leading", "skip_prk_steps": false})],
        "LCMScheduler" => vec![
            of_betas,
            threshold,
            json!({
                "timestep_spacing": "leading", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
                "original_inference_steps": 50, "clip_sample": false, "clip_sample_range": 1.0,
                "timestep_scaling": 10.0, "rescale_betas_zero_snr": false,
            }),
        ],
        "EulerDiscreteScheduler" => vec![
            of_betas,
            sigmas,
            json!({
                "interpolation_type": "linear", "sigma_min": null, "sigma_max": null, "timestep_type": "discrete",
                "rescale_betas_zero_snr": false, "final_sigmas_type": "zero",
            }),
        ],
        "EulerAncestralDiscreteScheduler" => vec![of_betas, json!({"rescale_betas_zero_snr": false})],
        "HeunDiscreteScheduler" => vec![
            of_betas,
            sigmas,
            json!({
                "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": false, "clip_sample_range": 1.0,
            }),
        ],
        "DPMSolverMultistepScheduler" => vec![
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
        "UniPCMultistepScheduler" => vec![
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
        FLOW_MATCHING_HEUN => vec![json!({"num_train_timesteps": 1000, "shift": 1.0})],
        FLOW_MATCHING => vec![
            sigmas,
            json!({
                "num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": false, "base_shift": 0.5, "max_shift": 1.15,
                "base_image_seq_len": 256, "max_image_seq_len": 4096, "invert_sigmas": false, "shift_terminal": null,
                "time_shift_type": "exponential", "stochastic_sampling": false,
            }),
        ],
        _ => return None,
    };
    Some(parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect())
}

/// The class that samples so, and what it has to be told for it.
fn class_of(sampler: SamplerKind) -> (&'static str, Option<(&'static str, Value)>) {
    match sampler {
        SamplerKind::Ddim => ("DDIMScheduler", None),
        SamplerKind::Ddpm => ("DDPMScheduler", None),
        SamplerKind::Euler => ("EulerDiscreteScheduler", None),
        SamplerKind::EulerAncestral => ("EulerAncestralDiscreteScheduler", None),
        SamplerKind::Heun => ("HeunDiscreteScheduler", None),
        SamplerKind::DpmSolver => {
            ("DPMSolverMultistepScheduler", Some(("algorithm_type", json!("dpmsolver++"))))
        }
        SamplerKind::DpmSolverSde => {
            ("DPMSolverMultistepScheduler", Some(("algorithm_type", json!("sde-dpmsolver++"))))
        }
        SamplerKind::UniPc => ("UniPCMultistepScheduler", None),
        SamplerKind::Pndm => ("PNDMScheduler", Some(("skip_prk_steps", json!(false)))),
        SamplerKind::Plms => ("PNDMScheduler", Some(("skip_prk_steps", json!(true)))),
        SamplerKind::Lcm => ("LCMScheduler", None),
    }
}

/// Classes that are not served and whose models any sampler of [`class_of`] samples: they too were trained with the noise
/// of betas.
const REPLACEABLE: [&str; 9] = [
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
    fn settings(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::None => vec![],
            Self::StableDiffusion => vec![("steps_offset", json!(1)), ("clip_sample", json!(false))],
            Self::Inpainting => vec![("steps_offset", json!(1)), ("skip_prk_steps", json!(true))],
        }
    }
}

/// Keys of the configuration that are none of a class: where it came from, and what other classes of diffusers have.
const INERT: [&str; 9] = [
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

/// Reads the scheduler in `folder`, or the one of `sampler` that is made of its settings.
pub(crate) fn import(
    source: &Source,
    pipeline: &Pipeline,
    folder: &str,
    sampler: Option<SamplerKind>,
    notes: &mut Vec<String>,
) -> Result<Scheduler, ImportError> {
    let keys = configuration(source, folder)?;
    let own: String = keys.need(&["_class_name"])?;
    let mut config = keys.map().clone();
    // What was a default when it was written is the default of the class that is made of it.
    if let Some(defaults) = keys.map().get("_use_default_values").and_then(Value::as_array) {
        config.retain(|key, _| !defaults.iter().any(|default| default == key));
    }
    // As diffusers does, which makes the class that the index names.
    if let Some(class) = pipeline.class_of(folder).filter(|class| *class != own) {
        notes.push(format!(
            "{}: _class_name is {own}, but {class} is made of it, as model_index.json says",
            keys.path().display()
        ));
        config.insert("_class_name".to_owned(), json!(class));
    }
    if config.get("_class_name") == Some(&json!(FLOW_MATCHING_HEUN)) && pipeline.family == Family::Flux {
        let must = format!(
            "must be {FLOW_MATCHING}: {} of diffusers takes no other (for Heun: --sampler heun)",
            pipeline.class
        );
        return Err(keys.wrong("_class_name", must));
    }
    let all: Vec<String> = CLASSES
        .iter()
        .filter_map(|class| defaults_of(class))
        .flat_map(|settings| settings.into_iter().map(|(key, _)| key))
        .collect();
    let known: Vec<&str> = all.iter().map(String::as_str).chain(INERT).collect();
    keys.note_others(&known, notes);
    read(&config, sampler, Mending::of(&pipeline.class)).map_err(|why| ImportError::wrong(keys.path(), why))
}

fn configuration(source: &Source, folder: &str) -> Result<Keys, ImportError> {
    Keys::read(
        source,
        &format!("{folder}/scheduler_config.json"),
        "it says what noise the model was trained with",
    )
}

/// Sets each of `settings` to what `config` says of it, if that is of the same kind: a number, a text, true or false.
fn fill(settings: &mut Map<String, Value>, config: &Map<String, Value>) -> Result<(), String> {
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
fn typed(settings: &Map<String, Value>) -> Result<Config, String> {
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

fn read(
    config: &Map<String, Value>,
    sampler: Option<SamplerKind>,
    mending: Mending,
) -> Result<Scheduler, String> {
    let mut scheduler = read_one(config, sampler, mending)?;
    if scheduler.flow.is_none() {
        let others = SamplerKind::ALL.into_iter().filter(|kind| *kind != scheduler.defaults.sampler);
        let others = others.map(|kind| (kind, scheduler.other(read_one(config, Some(kind), mending))));
        let different: BTreeMap<_, _> =
            others.filter(|(_, other)| *other != OtherSampler::default()).collect();
        scheduler.defaults.samplers = different;
    }
    Ok(scheduler)
}

/// One sampler, as `from_config` of its class makes it in diffusers.
fn read_one(
    config: &Map<String, Value>,
    sampler: Option<SamplerKind>,
    mending: Mending,
) -> Result<Scheduler, String> {
    let own = config.get("_class_name").and_then(Value::as_str).ok_or("has no _class_name")?;
    // Flow matching has its own classes, whatever the sampler.
    let is_flow = is_flow_matching(own);
    if let Some(sampler) = sampler.filter(|sampler| is_flow && !sampler.fits_flow()) {
        return Err(format!(
            "{} is no sampler for flow matching: Euler, Heun, DPM-Solver++, its SDE and UniPC are",
            json!(sampler)
        ));
    }
    let is_known = defaults_of(own).is_some();
    if !is_known && !REPLACEABLE.contains(&own) {
        return Err(format!(
            "{own} is not known here, and no other sampler draws what its model was trained for: known are DDIM, DDPM, PNDM, LCM, \
             Euler, Euler ancestral, Heun, DPM-Solver++, UniPC and flow-matching Euler"
        ));
    }
    let (class, told) = match sampler {
        Some(sampler) if !is_flow => class_of(sampler),
        _ => (own, None),
    };
    let mut settings = defaults_of(class).ok_or_else(|| {
        format!(
            "{class} is not known here, and its model can be drawn with DDIM, DDPM, Euler, Euler ancestral, Heun, DPM-Solver++ \
             or UniPC. Choose one of them instead (--sampler)"
        )
    })?;
    fill(&mut settings, config)?;
    for (key, mended) in mending.settings() {
        // What was not written down is not handed on to another class.
        let is_handed_on = class == own || config.contains_key(key);
        if let Some(setting) = settings.get_mut(key).filter(|_| is_handed_on) {
            *setting = mended;
        }
    }
    let has_zero_snr = config.get("rescale_betas_zero_snr") == Some(&json!(true));
    if has_zero_snr && class != own && !settings.contains_key("rescale_betas_zero_snr") {
        return Err(format!(
            "{class} does not know the rescale_betas_zero_snr that the model was trained with"
        ));
    }
    settings.extend(told.map(|(key, value)| (key.to_owned(), value)));
    // Of use to other samplers than the class's too: diffusers keeps it when it makes one scheduler of another.
    let at_x0 = config.get("set_alpha_to_one").and_then(Value::as_bool);
    let variance = learned_variance(config.get("variance_type"))?;
    let config = typed(&settings)?;
    let mut scheduler = config.read(class)?;
    if let Some(sampler) = sampler {
        scheduler.defaults.sampler = sampler;
    }
    scheduler.learned_variance = variance;
    scheduler.defaults.end_at_timestep_0 = at_x0.map(|at_x0| !at_x0);
    Ok(scheduler)
}

/// What is read of a variance that a graph gives besides its prediction: a pipeline splits it off unless its scheduler has
/// learned to read it.
fn learned_variance(variance_type: Option<&Value>) -> Result<LearnedVariance, String> {
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

    fn read(&self, class: &str) -> Result<Scheduler, String> {
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

impl Scheduler {
    /// The facts of a model of `image_size` pixels whose output has twice the channels of x if it `has_variance`. `tokens` says
    /// how tokens follow from x.
    pub(crate) fn facts(&self, image_size: usize, tokens: Tokens, has_variance: bool) -> DiffusionFacts {
        let flow = self.flow.map(|flow| flow.of(tokens));
        let (schedule, start, end) = match self.betas {
            None => (None, None, None),
            // It takes no end points.
            Some((BetaSchedule::SquaredcosCapV2, ..)) => (Some(BetaSchedule::SquaredcosCapV2), None, None),
            Some((schedule, start, end)) => (Some(schedule), Some(start), Some(end)),
        };
        DiffusionFacts {
            image_size,
            other_sizes: None,
            prediction_type: self.prediction,
            beta_schedule: schedule,
            beta_start: start,
            beta_end: end,
            train_timesteps: self.train_timesteps,
            zero_terminal_snr: self.zero_terminal_snr,
            distilled_steps: self.distilled_steps,
            low_resolution_size: None,
            learned_variance: has_variance.then_some(self.learned_variance),
            timestep_scale: 1.0,
            flow,
            latent: None,
        }
    }

    /// What is different with another sampler, as it was read.
    fn other(&self, other: Result<Self, String>) -> OtherSampler {
        let unfit = |why: String| OtherSampler { unfit: Some(why), ..OtherSampler::default() };
        match other {
            Ok(other) if !self.has_noise_of(&other) => {
                unfit("it would be sampled over other noise levels than it was trained with".to_owned())
            }
            Ok(other) => OtherSampler::between(&self.defaults, &other.defaults),
            // What to do about it is for those who import.
            Err(why) => unfit(why.split(':').next().unwrap_or(&why).to_owned()),
        }
    }

    /// Whether the scheduler adds the noise that the model says.
    pub(crate) fn reads_variance(&self) -> bool {
        self.learned_variance != LearnedVariance::Unread
    }

    /// Whether both were trained with the same noise.
    pub(crate) fn has_noise_of(&self, other: &Self) -> bool {
        (self.betas, self.train_timesteps, self.zero_terminal_snr)
            == (other.betas, other.train_timesteps, other.zero_terminal_snr)
    }
}

impl FlowConfig {
    fn of(self, tokens: Tokens) -> Flow {
        let slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens);
        let base = self.base_shift - slope * self.base_tokens;
        match tokens {
            Tokens::Given if self.dynamic => Flow::Mu { base, per_token: slope, to_last_timestep: false },
            Tokens::Given => Flow::Mu { base: self.shift.ln(), per_token: 0.0, to_last_timestep: false },
            Tokens::Made(patch) if self.dynamic => {
                let pixels = patch.pow(2).max(1) as f64;
                Flow::Mu { base, per_token: slope / pixels, to_last_timestep: true }
            }
            Tokens::Made(_) => Flow::Shift(self.shift),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &Value) -> Result<Scheduler, String> {
        super::read(config.as_object().unwrap(), None, Mending::None)
    }

    /// Settings of published models, and of the classes where they say nothing.
    #[test]
    fn what_a_configuration_leaves_out_is_the_default_of_its_class() {
        // Stable Diffusion 1.5.
        let pndm = read(&json!({
            "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
            "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
            "trained_betas": null, "clip_sample": false,
        }));
        let pndm = pndm.unwrap();
        assert_eq!((pndm.defaults.sampler, pndm.defaults.steps_offset), (SamplerKind::Plms, 1));
        assert_eq!(pndm.defaults.timestep_spacing, TimestepSpacing::Leading);
        assert_eq!(pndm.defaults.end_at_timestep_0, Some(true));
        assert_eq!(pndm.defaults.thresholding, ThresholdingKind::None);
        let facts = pndm.facts(512, Tokens::Made(1), false);
        assert_eq!((facts.beta_start, facts.beta_end), (Some(0.000_85), Some(0.012)));

        let ddim = read(&json!({"_class_name": "DDIMScheduler"})).unwrap();
        assert_eq!(ddim.defaults.thresholding, ThresholdingKind::Static, "it clips unless it is told not to");
        assert_eq!(ddim.defaults.end_at_timestep_0, None);
        assert_eq!(ddim.defaults.previous_timestep, PreviousTimestep::Stride);
        assert_eq!(ddim.facts(512, Tokens::Made(1), false).beta_schedule, Some(BetaSchedule::Linear));

        let euler = read(&json!({"_class_name": "EulerDiscreteScheduler", "clip_sample": true})).unwrap();
        assert_eq!(euler.defaults.timestep_spacing, TimestepSpacing::Linspace);
        assert_eq!(euler.defaults.thresholding, ThresholdingKind::None, "the class has no clip_sample");

        let lcm = read(&json!({"_class_name": "LCMScheduler", "beta_schedule": "scaled_linear"})).unwrap();
        assert_eq!(lcm.facts(512, Tokens::Made(1), false).distilled_steps, Some(50));

        // DeepFloyd IF.
        let ddpm = read(&json!({
            "_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range",
            "thresholding": true, "dynamic_thresholding_ratio": 0.95, "sample_max_value": 1.5, "clip_sample": true,
        }));
        let ddpm = ddpm.unwrap();
        assert_eq!(ddpm.defaults.thresholding, ThresholdingKind::Dynamic);
        assert_eq!((ddpm.defaults.threshold_quantile, ddpm.defaults.threshold_cap), (0.95, Some(1.5)));
        let facts = ddpm.facts(64, Tokens::Made(1), true);
        assert_eq!((facts.learned_variance, facts.beta_end), (Some(LearnedVariance::LearnedRange), None));
    }

    #[test]
    fn settings_of_another_class_are_nothing() {
        // Made from DPM-Solver++ with Karras' noise levels, as `from_config` makes it.
        let ancestral = read(&json!({
            "_class_name": "EulerAncestralDiscreteScheduler", "use_karras_sigmas": true, "final_sigmas_type": "sigma_min",
            "euler_at_final": true, "thresholding": true, "timestep_spacing": "leading",
        }));
        let defaults = ancestral.unwrap().defaults;
        assert_eq!((defaults.noise_levels, defaults.final_sigma), (Spacing::Trained, FinalSigma::Zero));
        assert_eq!(defaults.thresholding, ThresholdingKind::None);
        assert_eq!(defaults.timestep_spacing, TimestepSpacing::Leading);
    }

    #[test]
    fn another_sampler_can_take_the_place_of_one_that_is_not_known() {
        let config = json!({
            "_class_name": "DEISMultistepScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
            "solver_order": 2, "solver_type": "logrho", "prediction_type": "v_prediction",
        });
        let config = config.as_object().unwrap();
        assert!(super::read(config, None, Mending::None).unwrap_err().contains("--sampler"));
        let scheduler = super::read(config, Some(SamplerKind::Ddim), Mending::None).unwrap();
        assert_eq!(scheduler.defaults.sampler, SamplerKind::Ddim);
        assert_eq!(scheduler.prediction, PredictionType::VPrediction);
        assert_eq!(scheduler.facts(512, Tokens::Made(1), false).beta_end, Some(0.012));
        let sde = super::read(config, Some(SamplerKind::DpmSolverSde), Mending::None).unwrap();
        assert_eq!(sde.defaults.sampler, SamplerKind::DpmSolverSde);
    }

    #[test]
    fn flow_is_shifted_by_a_number_or_by_the_size() {
        let flow = |shift: f64, dynamic: bool| {
            let config = json!({
                "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": shift, "use_dynamic_shifting": dynamic,
                "base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
            });
            read(&config).unwrap()
        };
        // SD3; FLUX.1 schnell; FLUX.1 dev at 1024 px.
        let facts = |shift, dynamic, tokens| flow(shift, dynamic).facts(1024, tokens, false).flow;
        assert_eq!(facts(3.0, false, Tokens::Made(2)), Some(Flow::Shift(3.0)));
        let unshifted = Flow::Mu { base: 0.0, per_token: 0.0, to_last_timestep: false };
        assert_eq!(facts(1.0, false, Tokens::Given), Some(unshifted));
        for (of, pixels) in [(Tokens::Given, 1.0), (Tokens::Made(2), 4.0)] {
            let Some(Flow::Mu { base, per_token, to_last_timestep }) = facts(3.0, true, of) else {
                panic!("it depends on the tokens");
            };
            assert_eq!(to_last_timestep, matches!(of, Tokens::Made(_)));
            for (tokens, mu) in [(256.0, 0.5), (4096.0, 1.15)] {
                assert!((base + per_token * tokens * pixels - mu).abs() < 1e-12, "{tokens}");
            }
        }
    }

    #[test]
    fn flow_matching_takes_samplers_that_are_defined_on_it() {
        let config = json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0});
        let config = config.as_object().unwrap();
        let sampler =
            |kind| super::read(config, Some(kind), Mending::None).map(|scheduler| scheduler.defaults.sampler);
        assert_eq!(sampler(SamplerKind::UniPc), Ok(SamplerKind::UniPc));
        let refusal = sampler(SamplerKind::Lcm).unwrap_err();
        assert!(refusal.contains("lcm\" is no sampler for flow matching"), "{refusal}");
        assert!(sampler(SamplerKind::EulerAncestral).is_err());
    }

    /// What `X.from_config(pipe.scheduler.config)` makes of the scheduler file of Stable Diffusion 1.5.
    #[test]
    fn other_samplers_have_the_defaults_of_their_classes() {
        let pndm = json!({
            "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true,
            "steps_offset": 1, "trained_betas": null, "clip_sample": false,
        });
        let pndm = super::read(pndm.as_object().unwrap(), None, Mending::StableDiffusion).unwrap();
        let of = |kind| pndm.defaults.with_sampler(kind);
        for kind in SamplerKind::ALL {
            let leads = [
                SamplerKind::Ddim,
                SamplerKind::Ddpm,
                SamplerKind::Lcm,
                SamplerKind::Pndm,
                SamplerKind::Plms,
            ];
            let spacing =
                if leads.contains(&kind) { TimestepSpacing::Leading } else { TimestepSpacing::Linspace };
            assert_eq!(of(kind).timestep_spacing, spacing, "{kind:?}");
            assert_eq!(of(kind).steps_offset, 1, "{kind:?}: it is written down");
            assert_eq!(of(kind).thresholding, ThresholdingKind::None, "{kind:?}: so is that");
            assert_eq!(pndm.defaults.unfit(kind), None);
        }
    }

    /// `_use_default_values` of diffusers: what the first class made up is not handed on.
    #[test]
    fn only_what_is_written_down_is_handed_on() {
        let bare = json!({"_class_name": "DDIMScheduler", "clip_sample": true, "steps_offset": 0});
        let bare = super::read(bare.as_object().unwrap(), None, Mending::StableDiffusion).unwrap();
        assert_eq!((bare.defaults.steps_offset, bare.defaults.thresholding), (1, ThresholdingKind::None));
        let ddpm = bare.defaults.with_sampler(SamplerKind::Ddpm);
        assert_eq!((ddpm.steps_offset, ddpm.thresholding), (1, ThresholdingKind::None));

        let barer = json!({"_class_name": "DDIMScheduler"});
        let barer = super::read(barer.as_object().unwrap(), None, Mending::StableDiffusion).unwrap();
        assert_eq!((barer.defaults.steps_offset, barer.defaults.thresholding), (1, ThresholdingKind::None));
        let ddpm = barer.defaults.with_sampler(SamplerKind::Ddpm);
        assert_eq!((ddpm.steps_offset, ddpm.thresholding), (0, ThresholdingKind::Static));
    }

    #[test]
    fn a_sampler_that_cannot_be_made_of_the_settings_is_unfit() {
        let ddim = json!({
            "_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "rescale_betas_zero_snr": true,
            "timestep_spacing": "trailing", "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
        });
        let defaults = read(&ddim).unwrap().defaults;
        let unfit: Vec<_> =
            SamplerKind::ALL.into_iter().filter(|kind| defaults.unfit(*kind).is_some()).collect();
        assert_eq!(unfit, [SamplerKind::Heun, SamplerKind::Pndm, SamplerKind::Plms]);
        let why = defaults.unfit(SamplerKind::Heun).unwrap();
        assert!(why.contains("rescale_betas_zero_snr"), "{why}");
        // Heun's class has other betas than Euler's, where none are written down.
        let euler = read(&json!({"_class_name": "EulerDiscreteScheduler"})).unwrap().defaults;
        assert!(euler.unfit(SamplerKind::Heun).unwrap().contains("noise levels"));
    }

    /// They were trained with a noise that no sampler of betas goes through.
    #[test]
    fn nothing_stands_in_for_a_scheduler_of_another_kind_of_training() {
        for class in [
            "EDMEulerScheduler",
            "EDMDPMSolverMultistepScheduler",
            "CosineDPMSolverMultistepScheduler",
            "CMStochasticIterativeScheduler",
            "TCDScheduler",
            "IPNDMScheduler",
            "ScoreSdeVeScheduler",
            "SomebodysOwnScheduler",
        ] {
            let config = json!({"_class_name": class, "sigma_data": 0.5});
            for sampler in [None, Some(SamplerKind::DpmSolver)] {
                let refusal = super::read(config.as_object().unwrap(), sampler, Mending::None).unwrap_err();
                assert!(refusal.contains(class) && !refusal.contains("--sampler"), "{refusal}");
            }
        }
    }

    /// Each sampler that a refusal names must work.
    #[test]
    fn what_is_recommended_can_be_imported() {
        for class in REPLACEABLE {
            let config = json!({"_class_name": class});
            let config = config.as_object().unwrap();
            assert!(super::read(config, None, Mending::None).unwrap_err().contains("--sampler"), "{class}");
            for kind in SamplerKind::ALL.into_iter().filter(|kind| !matches!(kind, SamplerKind::Lcm)) {
                let scheduler = super::read(config, Some(kind), Mending::None).unwrap();
                assert_eq!(scheduler.defaults.sampler, kind, "{class}");
            }
        }
    }

    #[test]
    fn a_variance_is_read_as_the_configuration_says() {
        let read = |variance: &str| {
            let config = json!({"_class_name": "DDPMScheduler", "variance_type": variance});
            read(&config)
                .map(|of| (of.facts(64, Tokens::Made(1), true).learned_variance, of.defaults.variance))
        };
        for (name, learned, fixed) in [
            ("fixed_small", LearnedVariance::Unread, None),
            ("fixed_small_log", LearnedVariance::Unread, None),
            ("fixed_large", LearnedVariance::Unread, Some(Variance::FixedLarge)),
            ("fixed_large_log", LearnedVariance::Unread, Some(Variance::FixedLarge)),
            ("learned", LearnedVariance::Learned, None),
            ("learned_range", LearnedVariance::LearnedRange, None),
        ] {
            assert_eq!(read(name), Ok((Some(learned), fixed)), "{name}");
        }
        let refusal = read("learned_sigma").unwrap_err();
        assert!(refusal.contains("variance_type must be fixed_small") && refusal.contains("learned_sigma"));
        // A scheduler without variances of its own splits off what the graph gives.
        let ddim = super::tests::read(&json!({"_class_name": "DDIMScheduler"})).unwrap();
        assert_eq!(ddim.facts(64, Tokens::Made(1), true).learned_variance, Some(LearnedVariance::Unread));
        assert_eq!(ddim.facts(64, Tokens::Made(1), false).learned_variance, None);
    }

    /// `DDIMScheduler.from_config` of diffusers finds it among what Euler's class has no use for.
    #[test]
    fn the_end_of_other_samplers_is_kept() {
        let euler = json!({"_class_name": "EulerDiscreteScheduler", "set_alpha_to_one": false});
        assert_eq!(read(&euler).unwrap().defaults.end_at_timestep_0, Some(true));
    }

    #[test]
    fn settings_that_are_not_served_are_named() {
        for (class, key, value) in [
            ("EulerDiscreteScheduler", "use_beta_sigmas", json!(true)),
            ("DPMSolverMultistepScheduler", "solver_order", json!(3)),
            ("DPMSolverMultistepScheduler", "solver_type", json!("heun")),
            ("DPMSolverMultistepScheduler", "algorithm_type", json!("dpmsolver")),
            ("DPMSolverMultistepScheduler", "lambda_min_clipped", json!(-5.1)),
            ("UniPCMultistepScheduler", "solver_type", json!("bh1")),
            ("DDIMScheduler", "clip_sample_range", json!(2.0)),
            ("LCMScheduler", "timestep_scaling", json!(1.0)),
            ("DDIMScheduler", "beta_schedule", json!("exp")),
        ] {
            let config = json!({"_class_name": class, "clip_sample": true, key: value});
            let refusal = read(&config).unwrap_err();
            assert!(refusal.contains(key), "{class}: {refusal}");
        }
    }
}
