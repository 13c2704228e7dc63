//! The scheduler of a pipeline: what it says of the model's training, and how it samples.
//!
//! A configuration holds what someone thought of writing down, and what it had when it was another class's. As in diffusers, the
//! class decides what counts, and has defaults for the rest.

mod classes;
mod config;

use std::collections::BTreeMap;

use reverie_diffusion::{BetaSchedule, PredictionType, SamplerKind};
use reverie_packages::package::{Defaults, DiffusionFacts, Flow, LearnedVariance, OtherSampler};
use serde_json::{Map, Value, json};

use crate::ImportError;
use crate::keys::Keys;
use crate::pipeline::{Family, Pipeline};
use crate::source::Source;

pub(crate) use classes::Mending;
use classes::{
    FLOW_MATCHING, FLOW_MATCHING_HEUN, INERT, REPLACEABLE, classes, defaults_of, is_flow_matching, setting_of,
};
use config::{fill, learned_variance, typed};

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
    let all: Vec<String> = classes()
        .into_iter()
        .filter_map(defaults_of)
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
        let fit = SamplerKind::names(SamplerKind::fits_flow);
        return Err(format!("{} does not fit a model trained by flow matching: {fit} do", sampler.name()));
    }
    let is_known = defaults_of(own).is_some();
    if !is_known && !REPLACEABLE.contains(&own) {
        let known: Vec<_> = classes().into_iter().collect();
        return Err(format!(
            "unknown scheduler {own}, and no other sampler draws what its model was trained for: must be one of {}",
            known.join(", ")
        ));
    }
    let (class, told) = match sampler {
        Some(sampler) if !is_flow => (sampler.scheduler_class(), setting_of(sampler)),
        _ => (own, None),
    };
    let mut settings = defaults_of(class).ok_or_else(|| {
        let others = SamplerKind::names(|kind| kind != SamplerKind::Lcm).replace('_', "-");
        format!("unknown scheduler {class}; its model can be drawn with another sampler: choose one with --sampler ({others})")
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
mod tests;
