//! One level: its model as the step scheduler sees it, and what it takes.

use std::error::Error;

use reverie_denoising::serving;
use reverie_denoising::{ModelError as ForwardError, Row, RowModel, Scheduler, SchedulerHandle};
use reverie_diffusion::NoiseSchedule;
use reverie_inference::package::{Defaults, DiffusionFacts, TextCondition};
use reverie_inference::{Input, ModelError, Package, SessionPool, Values};
use reverie_proto::denoiser::v1::ModelIdentity;
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
    pub(crate) schedule: NoiseSchedule,
    pub(crate) identity: ModelIdentity,
}

/// What the rows of one picture are conditioned on.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// f32 `[3, side, side]`, upsampled and noised.
    pub(crate) low_resolution: Vec<f32>,
    /// 0 to 1.
    pub(crate) noise_level: f32,
    /// Only where the model takes text.
    pub(crate) text: Option<EncodedText>,
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
        let schedule = diffusion.schedule()?;
        let facts = Facts {
            stage,
            low_side,
            side: diffusion.image_size,
            diffusion,
            defaults,
            text: package.manifest.conditions.text.clone(),
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

    fn forward(&mut self, rows: &mut [Row<'_, Conditions>]) -> Result<(), ForwardError> {
        let facts = &self.facts;
        let side = facts.side;
        self.pool
            .for_each(rows, |model, row| {
                let conditions = row.conditions;
                let (timestep, noise_level) = ([row.timestep], [conditions.noise_level]);
                let shape = [1, 3, side, side];
                let input = |name, shape, values| Input { name, shape, values: Values::F32(values) };
                let mut inputs = vec![
                    input("x", &shape[..], row.x),
                    input("low_resolution", &shape, &conditions.low_resolution),
                    input("timestep", &[1], &timestep),
                ];
                if model.takes("noise_level") {
                    inputs.push(input("noise_level", &[1], &noise_level));
                }
                let text = conditions.text.as_ref().zip(facts.text.as_ref()).map(|(text, facts)| {
                    let tokens = facts.max_tokens;
                    let mask = if row.condition.text { text.mask(tokens) } else { vec![0.0; tokens] };
                    (&text.tokens, [1, tokens, facts.dim], mask, [1, tokens])
                });
                if let Some((tokens, token_shape, mask, mask_shape)) = &text {
                    inputs.push(input("text_tokens", token_shape, tokens));
                    inputs.push(input("text_mask", mask_shape, mask));
                }
                model.run(&inputs, &mut [("prediction", &mut *row.out)])
            })
            .map_err(ForwardError::new)
    }
}
