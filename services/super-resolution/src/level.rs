//! One level: its model as its lane runs it, and what it takes.

use std::sync::Arc;

use reverie_diffusion::{NoiseSchedule, augmentation_timestep};
use reverie_engine::trajectory::{Evaluation, Row};
use reverie_engine::{Input, Lane, ModelError, RowData, RowError, RowModel, Session, Values};
use reverie_packages::package::{Defaults, DiffusionFacts, LowResolutionCondition, TextCondition};
use reverie_packages::{Package, PackageError};
use reverie_proto::diffusion::v1::ModelIdentity;
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
        let lane = Lane::of_package(package, models, &settings.lane, &settings.inference)?;
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

    fn batch(&self) -> usize {
        self.session.batch()
    }

    fn weight(row: &Row<Conditions>) -> f64 {
        row.weight()
    }

    fn typical_row(&self) -> Option<Row<Conditions>> {
        let Facts { text, diffusion, .. } = &*self.facts;
        let elements = self.facts.elements();
        let outputs = if diffusion.learned_variance.is_some() { 2 * elements } else { elements };
        let texts =
            text.as_ref().map(|wanted| Texts { with: Text::blank(wanted), without: Text::blank(wanted) });
        let conditions = Conditions { low_resolution: vec![0.0; elements], noise_level: 0.0, texts };
        Some(Row::typical(elements, outputs, conditions))
    }

    fn can_share(one: &Row<Conditions>, other: &Row<Conditions>) -> bool {
        one.evaluation.x.len() == other.evaluation.x.len()
    }

    fn run(&mut self, rows: &mut [Row<Conditions>]) -> Result<Vec<Vec<f32>>, RowError> {
        let Self { session, facts } = self;
        let (evaluations, mut outs): (Vec<_>, Vec<_>) =
            rows.iter_mut().map(|Row { evaluation, out }| (&*evaluation, out)).unzip();
        let fed: Vec<Fed> = evaluations.iter().map(|row| Fed::of(row, facts)).collect();
        let shapes = Shapes::of(facts);
        let data = evaluations.iter().zip(&fed).zip(&mut outs).map(|((row, fed), out)| RowData {
            inputs: inputs(row, fed, &shapes, session),
            outputs: vec![("prediction", out.as_mut_slice())],
        });
        let mut data: Vec<RowData<'_>> = data.collect();
        session.run(&mut data)?;
        Ok(outs.into_iter().map(std::mem::take).collect())
    }
}

/// What a row is fed with that is not in its conditions as it is.
struct Fed {
    timestep: [f32; 1],
    noise_level: [f32; 1],
    /// x and the smaller picture, for models that take both as one.
    joined: Option<Vec<f32>>,
}

impl Fed {
    fn of(row: &Evaluation<Conditions>, facts: &Facts) -> Self {
        let Conditions { low_resolution, noise_level, .. } = &*row.conditions;
        let noise_level = facts.noise_timestep(*noise_level).map_or(*noise_level, |timestep| timestep as f32);
        Self {
            timestep: [row.timestep * facts.diffusion.timestep_scale],
            noise_level: [noise_level],
            joined: facts.low_resolution.concatenated.then(|| [&row.x[..], low_resolution].concat()),
        }
    }
}

/// The extents of a row's inputs.
struct Shapes {
    picture: [usize; 4],
    joined: [usize; 4],
    /// Tokens of the text, and their mask.
    text: Option<([usize; 3], [usize; 2])>,
}

impl Shapes {
    fn of(Facts { side, text, .. }: &Facts) -> Self {
        Self {
            picture: [1, 3, *side, *side],
            joined: [1, 6, *side, *side],
            text: text.as_ref().map(|text| ([1, text.max_tokens, text.dim], [1, text.max_tokens])),
        }
    }
}

fn inputs<'a>(
    row: &'a Evaluation<Conditions>,
    fed: &'a Fed,
    shapes: &'a Shapes,
    session: &Session,
) -> Vec<Input<'a>> {
    let input = |name, shape, values, identity| Input { name, shape, values: Values::F32(values), identity };
    let (conditions, lasting) = (&*row.conditions, Some(row.of_trajectory()));
    let mut inputs = match &fed.joined {
        Some(joined) => vec![input("x", &shapes.joined[..], joined, None)],
        None => vec![
            input("x", &shapes.picture[..], &row.x, None),
            input("low_resolution", &shapes.picture, &conditions.low_resolution, lasting),
        ],
    };
    inputs.push(input("timestep", &[1], &fed.timestep, None));
    if session.takes("noise_level") {
        inputs.push(input("noise_level", &[1], &fed.noise_level, lasting));
    }
    let text = conditions.texts.as_ref().map(|texts| texts.of(row.condition));
    if let (Some(text), Some((token_shape, mask_shape))) = (text, &shapes.text) {
        inputs.push(input("text_tokens", token_shape, &text.tokens, Some(row.of_condition())));
        if session.takes("text_mask") {
            inputs.push(input("text_mask", mask_shape, &text.mask, Some(row.of_condition())));
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use reverie_diffusion::guidance::Condition;
    use reverie_engine::{Identity, InferenceSettings, contract};
    use reverie_packages::Role;
    use reverie_service_kit::settings::{self, Sources};

    use super::*;

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
        let texts = facts.text.as_ref().map(|wanted| Texts { with: text(wanted), without: text(wanted) });
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
        let open = |inference: &InferenceSettings| {
            let sessions = Session::open_all(&package, inference).unwrap();
            sessions.into_iter().map(|session| LevelModel { session, facts: Arc::clone(facts) }).collect()
        };
        contract::check(open, |number| row(number, elements), || row(0, 7));
    }
}
