//! One level: its model as the step scheduler sees it, and what it takes.

use std::borrow::Cow;
use std::error::Error;

use reverie_denoising::serving;
use reverie_denoising::{ModelError as ForwardError, Row, RowModel, Scheduler, SchedulerHandle};
use reverie_diffusion::{NoiseSchedule, augmentation_timestep};
use reverie_inference::package::{
    Defaults, DiffusionFacts, LowResolutionCondition, TextCondition, WithoutText,
};
use reverie_inference::{Input, ModelError, Package, SessionPool, Values};
use reverie_proto::diffusion::v1::ModelIdentity;
use reverie_proto::tensors::EncodedText;

use crate::Settings;

/// What a level takes.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Its place in the cascade, for the noise streams: 1 is the first level.
    pub(crate) stage: u16,
    /// Side of the smaller picture, pixels.
    pub(crate) low_side: usize,
    /// Side of the picture it draws, pixels.
    pub(crate) side: usize,
    pub(crate) diffusion: DiffusionFacts,
    pub(crate) defaults: Defaults,
    pub(crate) text: Option<TextCondition>,
    pub(crate) low_resolution: LowResolutionCondition,
    /// Whether the model is told the timestep of the conditioning noise instead of its level.
    told_timestep_of_noise: bool,
    pub(crate) schedule: NoiseSchedule,
    pub(crate) identity: ModelIdentity,
}

impl Facts {
    /// The timestep of the conditioning noise, for models that are told of it.
    pub(crate) fn noise_timestep(&self, level: f32) -> Option<u32> {
        self.told_timestep_of_noise.then(|| augmentation_timestep(level, self.diffusion.train_timesteps))
    }
}

/// What the rows of one picture are conditioned on.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// f32 `[3, side, side]`, upsampled and noised.
    pub(crate) low_resolution: Vec<f32>,
    /// 0 to 1.
    pub(crate) noise_level: f32,
    /// Only where the model takes text.
    pub(crate) text: Option<Texts>,
}

/// What rows with text and rows without see.
#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) text: EncodedText,
    /// The negative prompt, or the empty text.
    pub(crate) negative: Option<EncodedText>,
}

impl Texts {
    /// Tokens and mask for a row.
    fn seen(&self, has_text: bool, facts: &TextCondition) -> (Cow<'_, [f32]>, Vec<f32>) {
        let Self { text, negative } = self;
        let mask = |text: &EncodedText| text.mask(facts.max_tokens);
        match (has_text, negative, facts.without) {
            (true, ..) => (Cow::Borrowed(&text.tokens), mask(text)),
            (false, Some(negative), _) => (Cow::Borrowed(&negative.tokens), mask(negative)),
            (false, None, WithoutText::Zeros) => (vec![0.0; text.tokens.len()].into(), mask(text)),
            (false, None, _) => (Cow::Borrowed(&text.tokens), vec![0.0; facts.max_tokens]),
        }
    }
}

/// A running level.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    pub(crate) facts: Facts,
    pub(crate) scheduler: SchedulerHandle<Conditions>,
}

impl Level {
    pub(crate) fn start(
        package: &Package,
        stage: u16,
        settings: &Settings,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let wrong = |why: &str| ModelError::Manifest { file: package.location.clone(), why: why.to_owned() };
        let (diffusion, defaults) = serving::facts(package)?;
        let low_side = diffusion
            .low_resolution_size
            .filter(|low_side| *low_side < diffusion.image_size)
            .ok_or_else(|| wrong("diffusion.low_resolution_size must be below diffusion.image_size"))?;
        if diffusion.latent.is_some() {
            return Err(wrong("super-resolution of latents is not known here").into());
        }
        let schedule = diffusion.schedule()?;
        let conditions = &package.manifest.conditions;
        let facts = Facts {
            stage,
            low_side,
            side: diffusion.image_size,
            diffusion,
            defaults,
            text: conditions.text.clone(),
            low_resolution: conditions.low_resolution.unwrap_or_default(),
            told_timestep_of_noise: conditions.noise_level.is_some_and(|level| level.timesteps),
            schedule,
            identity: serving::identity(package),
        };
        let pool = SessionPool::load(package, &settings.inference)?;
        let model = LevelModel { pool, facts: facts.clone(), max_rows: settings.scheduler.max_rows_per_tick };
        let scheduler = Scheduler::spawn(model, settings.scheduler)?;
        Ok(Self { facts, scheduler })
    }
}

struct LevelModel {
    pool: SessionPool,
    facts: Facts,
    max_rows: usize,
}

impl RowModel for LevelModel {
    type Conditions = Conditions;

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn forward(&mut self, rows: &mut [Row<'_, Conditions>]) -> Vec<Result<(), ForwardError>> {
        let facts = &self.facts;
        let side = facts.side;
        let outcomes = self.pool.for_each(rows, |model, row| {
            let conditions = row.conditions;
            let noise_level = conditions.noise_level;
            let noise_level =
                facts.noise_timestep(noise_level).map_or(noise_level, |timestep| timestep as f32);
            let (timestep, noise_level) = ([row.timestep * facts.diffusion.timestep_scale], [noise_level]);
            let shape = [1, 3, side, side];
            let input = |name, shape, values| Input { name, shape, values: Values::F32(values) };
            let joined =
                facts.low_resolution.concatenated.then(|| [row.x, &conditions.low_resolution].concat());
            let joined_shape = [1, 6, side, side];
            let mut inputs = match &joined {
                Some(joined) => vec![input("x", &joined_shape[..], joined)],
                None => {
                    vec![
                        input("x", &shape[..], row.x),
                        input("low_resolution", &shape, &conditions.low_resolution),
                    ]
                }
            };
            inputs.push(input("timestep", &[1], &timestep));
            if model.takes("noise_level") {
                inputs.push(input("noise_level", &[1], &noise_level));
            }
            let text = conditions.text.as_ref().zip(facts.text.as_ref());
            let text = text.map(|(texts, facts)| (texts.seen(row.condition.text, facts), facts));
            let shapes =
                text.as_ref().map(|(_, facts)| ([1, facts.max_tokens, facts.dim], [1, facts.max_tokens]));
            if let (Some(((tokens, mask), _)), Some((token_shape, mask_shape))) = (&text, &shapes) {
                inputs.push(input("text_tokens", token_shape, tokens));
                if model.takes("text_mask") {
                    inputs.push(input("text_mask", mask_shape, mask));
                }
            }
            model.run(&inputs, &mut [("prediction", &mut *row.out)])
        });
        outcomes.into_iter().map(|outcome| outcome.map_err(ForwardError::new)).collect()
    }
}
