//! One level: its model, and what each of its inputs takes.

use std::sync::Arc;

use reverie_diffusion::{NoiseSchedule, augmentation_timestep};
use reverie_engine::trajectory::{self, Evaluation, Row};
use reverie_engine::{Lane, ModelError};
use reverie_packages::Package;
use reverie_packages::package::{Defaults, DiffusionFacts, LowResolutionCondition, TextCondition};
use reverie_proto::diffusion::v1::ModelIdentity;
use reverie_stage::feeds::{Fed, FedModel, Feeds};
use reverie_stage::model;
use reverie_stage::text::{Text, Texts};

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
    /// Elements of a sample.
    pub(crate) fn elements(&self) -> usize {
        3 * self.side * self.side
    }

    pub(crate) fn default_guidance_weight(&self) -> f32 {
        self.defaults.guidance_weight.unwrap_or(1.0)
    }

    pub(crate) fn default_noise_level(&self) -> f32 {
        self.defaults.noise_level.unwrap_or(0.0)
    }

    /// The extents of a picture of its size, with one row.
    fn picture(&self, channels: usize) -> [usize; 4] {
        [1, channels, self.side, self.side]
    }

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
    /// Empty where the model takes no text.
    pub(crate) texts: Texts,
}

impl trajectory::Conditions for Conditions {}

/// A running level.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    pub(crate) facts: Arc<Facts>,
    pub(crate) lane: Lane<FedModel<Facts>>,
}

impl Level {
    /// Loads a level, the `stage`th of the cascade. Blocks.
    pub(crate) fn open(package: &Package, stage: u16, settings: &Settings) -> Result<Self, ModelError> {
        let wrong = |why: &str| package.wrong(why.to_owned());
        let (diffusion, defaults) = model::facts(package)?;
        let low_side = diffusion
            .low_resolution_size
            .filter(|low_side| *low_side < diffusion.image_size)
            .ok_or_else(|| wrong("diffusion.low_resolution_size must be below diffusion.image_size"))?;
        if diffusion.latent.is_some() {
            return Err(wrong("super-resolution of latents is not known here").into());
        }
        let schedule = diffusion.schedule().map_err(|error| wrong(&error.to_string()))?;
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
        let low_resolution = (!facts.low_resolution.concatenated).then_some("low_resolution");
        let text = facts.text.as_ref().map(|_| "text_tokens");
        for needed in ["x", "timestep"].into_iter().chain(low_resolution).chain(text) {
            if !package.manifest.graph.inputs.contains_key(needed) {
                return Err(wrong(&format!("the graph has no input {needed}, which the level needs")).into());
            }
        }
        let models = FedModel::open_all(package, &facts, &settings.inference)?;
        let lane = Lane::of_package(package, models, &settings.lane, &settings.inference)?;
        Ok(Self { facts, lane })
    }
}

/// What one input of the graph is fed with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Feed {
    /// x, with the smaller picture for further channels where the model takes both as one.
    Sample,
    LowResolution,
    Timestep,
    NoiseLevel,
    TextTokens {
        max_tokens: usize,
        dim: usize,
    },
    TextMask,
}

impl Feeds for Facts {
    type Conditions = Conditions;
    type Feed = Feed;

    fn feed(&self, name: &str) -> Option<Feed> {
        let text = self.text.as_ref();
        Some(match name {
            "x" => Feed::Sample,
            "low_resolution" if !self.low_resolution.concatenated => Feed::LowResolution,
            "timestep" => Feed::Timestep,
            "noise_level" => Feed::NoiseLevel,
            "text_tokens" => {
                text.map(|text| Feed::TextTokens { max_tokens: text.max_tokens, dim: text.dim })?
            }
            "text_mask" if text.is_some() => Feed::TextMask,
            _ => return None,
        })
    }

    fn fed<'a>(&self, feed: Feed, row: &'a Evaluation<Conditions>) -> Fed<'a> {
        let Conditions { low_resolution, noise_level, texts } = &*row.conditions;
        let text = texts.of(row.condition);
        match feed {
            Feed::Sample if self.low_resolution.concatenated => {
                Fed::once(&self.picture(6), [&row.x[..], low_resolution].concat())
            }
            Feed::Sample => Fed::once(&self.picture(3), &row.x[..]),
            Feed::LowResolution => {
                Fed::once(&self.picture(3), &low_resolution[..]).lasting(row.of_trajectory())
            }
            Feed::Timestep => Fed::once(&[1], vec![row.timestep * self.diffusion.timestep_scale]),
            Feed::NoiseLevel => {
                let timestep = self.noise_timestep(*noise_level);
                let told = timestep.map_or(*noise_level, |timestep| timestep as f32);
                Fed::once(&[1], vec![told]).lasting(row.of_trajectory())
            }
            Feed::TextTokens { max_tokens, dim } => {
                Fed::once(&[1, max_tokens, dim], &text.tokens[..]).lasting(row.of_condition())
            }
            Feed::TextMask => Fed::once(&[1, text.mask.len()], &text.mask[..]).lasting(row.of_condition()),
        }
    }

    fn typical_rows(&self) -> Vec<Row<Conditions>> {
        let elements = self.elements();
        let outputs = if self.diffusion.learned_variance.is_some() { 2 * elements } else { elements };
        let blank = |wanted| Texts { with: Text::blank(wanted), without: Text::blank(wanted) };
        let texts = self.text.as_ref().map(blank).unwrap_or_default();
        let conditions = Conditions { low_resolution: vec![0.0; elements], noise_level: 0.0, texts };
        vec![Row::typical(elements, outputs, conditions)]
    }

    fn can_share(one: &Evaluation<Conditions>, other: &Evaluation<Conditions>) -> bool {
        one.x.len() == other.x.len()
    }
}

#[cfg(test)]
mod tests {
    use reverie_diffusion::guidance::Condition;
    use reverie_engine::{Identity, InferenceSettings, contract};
    use reverie_packages::Role;
    use reverie_service_kit::settings::{self, Sources};

    use super::*;

    #[tokio::test]
    async fn a_level_that_would_not_see_its_conditions_is_refused() {
        let settings: Settings = settings::load(&Sources::default()).unwrap();
        for needed in ["timestep", "low_resolution"] {
            let mut package = contract::package(Role::SuperResolution).await;
            package.manifest.graph.inputs.remove(needed).unwrap();
            let why = Level::open(&package, 1, &settings).unwrap_err().to_string();
            assert!(why.contains(&format!("no input {needed}, which the level needs")), "{why}");
        }
    }

    #[tokio::test]
    async fn a_row_depends_on_nothing_but_itself() {
        let package = contract::package(Role::SuperResolution).await;
        let settings: Settings = settings::load(&Sources::default()).unwrap();
        let level = Level::open(&package, 1, &settings).unwrap();
        let facts = &level.facts;
        let elements = 3 * facts.side * facts.side;
        let text = |wanted: &TextCondition| Text {
            tokens: vec![0.2; wanted.max_tokens * wanted.dim],
            mask: vec![1.0; wanted.max_tokens],
            pooled: Vec::new(),
        };
        let texts = facts
            .text
            .as_ref()
            .map(|wanted| Texts { with: text(wanted), without: text(wanted) })
            .unwrap_or_default();
        let row = |number: u32, elements: usize| {
            let values = |number| contract::values(elements, number);
            Row {
                evaluation: Evaluation {
                    x: Arc::new(values(number)),
                    timestep: 100.0 * (1 + number) as f32,
                    condition: Condition::NONE,
                    conditions: Arc::new(Conditions {
                        low_resolution: values(9),
                        noise_level: 0.1,
                        texts: texts.clone(),
                    }),
                    identity: Identity::unique(),
                },
                out: vec![0.0; 3 * facts.side * facts.side],
            }
        };
        let open = |inference: &InferenceSettings| FedModel::open_all(&package, facts, inference).unwrap();
        contract::check(open, |number| row(number, elements), || row(0, 7));
    }
}
