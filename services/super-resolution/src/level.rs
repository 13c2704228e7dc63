//! One level: its model as its lane runs it, and what it takes.

use std::sync::Arc;

use reverie_diffusion::{NoiseSchedule, augmentation_timestep};
use reverie_engine::trajectory::Row;
use reverie_engine::{Input, Lane, ModelError, RowError, RowModel, Session, Values};
use reverie_packages::package::{Defaults, DiffusionFacts, LowResolutionCondition, TextCondition};
use reverie_packages::{Package, PackageError};
use reverie_proto::diffusion::v1::ModelIdentity;
use reverie_stage::model;
use reverie_stage::text::Texts;

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
    pub(crate) texts: Option<Texts>,
}

/// A running level.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    pub(crate) facts: Arc<Facts>,
    pub(crate) lane: Lane<LevelModel>,
}

impl Level {
    /// Loads a level, the `stage`th of the cascade. Blocks.
    pub(crate) fn open(package: &Package, stage: u16, settings: &Settings) -> Result<Self, ModelError> {
        let wrong = |why: String| PackageError::Manifest { file: package.location.clone(), why };
        let (diffusion, defaults) = model::facts(package)?;
        let low_side =
            diffusion.low_resolution_size.filter(|low_side| *low_side < diffusion.image_size).ok_or_else(
                || wrong("diffusion.low_resolution_size must be below diffusion.image_size".into()),
            )?;
        if diffusion.latent.is_some() {
            return Err(wrong("super-resolution of latents is not known here".into()).into());
        }
        let schedule = diffusion.schedule().map_err(|error| wrong(error.to_string()))?;
        let conditions = &package.manifest.conditions;
        let facts = Arc::new(Facts {
            stage,
            low_side,
            side: diffusion.image_size,
            diffusion,
            defaults,
            text: conditions.text.clone(),
            low_resolution: conditions.low_resolution.unwrap_or_default(),
            told_timestep_of_noise: conditions.noise_level.is_some_and(|level| level.timesteps),
            schedule,
            identity: model::identity(package),
        });
        let sessions = Session::open_all(package, &settings.inference)?;
        let models =
            sessions.into_iter().map(|session| LevelModel { session, facts: Arc::clone(&facts) }).collect();
        let lane = Lane::of_package(package, models, settings.lane, &settings.inference)?;
        Ok(Self { facts, lane })
    }
}

/// The model of a level on one session.
pub(crate) struct LevelModel {
    session: Session,
    facts: Arc<Facts>,
}

impl RowModel for LevelModel {
    type Row = Row<Conditions>;
    type Output = Vec<f32>;

    fn run(&mut self, mut row: Row<Conditions>) -> Result<Vec<f32>, RowError> {
        let Self { session, facts } = self;
        let mut out = std::mem::take(&mut row.out);
        let (x, conditions) = (row.x.as_slice(), row.conditions.as_ref());
        let noise_level = conditions.noise_level;
        let noise_level = facts.noise_timestep(noise_level).map_or(noise_level, |timestep| timestep as f32);
        let (timestep, noise_level) = ([row.timestep * facts.diffusion.timestep_scale], [noise_level]);
        let side = facts.side;
        let (shape, joined_shape) = ([1, 3, side, side], [1, 6, side, side]);
        let input = |name, shape, values| Input { name, shape, values: Values::F32(values) };
        let joined = facts.low_resolution.concatenated.then(|| [x, &conditions.low_resolution].concat());
        let mut inputs = match &joined {
            Some(joined) => vec![input("x", &joined_shape[..], joined)],
            None => {
                vec![input("x", &shape[..], x), input("low_resolution", &shape, &conditions.low_resolution)]
            }
        };
        inputs.push(input("timestep", &[1], &timestep));
        if session.takes("noise_level") {
            inputs.push(input("noise_level", &[1], &noise_level));
        }
        let text = conditions.texts.as_ref().map(|texts| texts.of(row.condition));
        let shapes = facts.text.as_ref().map(|text| ([1, text.max_tokens, text.dim], [1, text.max_tokens]));
        if let (Some(text), Some((token_shape, mask_shape))) = (text, &shapes) {
            inputs.push(input("text_tokens", token_shape, &text.tokens));
            if session.takes("text_mask") {
                inputs.push(input("text_mask", mask_shape, &text.mask));
            }
        }
        session.run(&inputs, &mut [("prediction", &mut out)])?;
        Ok(out)
    }
}
