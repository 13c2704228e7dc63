//! The base model as its lane runs it: rows in, predictions out.

use std::borrow::Cow;
use std::sync::Arc;

use reverie_engine::trajectory::{Evaluation, Row};
use reverie_engine::{
    Identity, InferenceSettings, Input, ModelError, RowData, RowError, RowModel, Session, Values,
};
use reverie_packages::package::GuidanceCondition;
use reverie_packages::{Package, PackageError};
use reverie_stage::text::{Text, Texts};

use crate::facts::{Facts, Feature, Frame};
use crate::patches::Patches;

/// What the rows of one picture are conditioned on.
#[derive(Debug)]
pub(crate) struct Conditions {
    pub(crate) frame: Frame,
    pub(crate) texts: Texts,
    /// K, at least 1 where the model takes neighbours: without any there is one that is hidden.
    pub(crate) neighbours: usize,
    /// Whether the neighbours are real.
    pub(crate) has_neighbours: bool,
    /// Features of all neighbours, one tensor `[K, …]` a feature.
    pub(crate) features: Vec<Vec<f32>>,
    /// The weight of guidance, for models that are told.
    pub(crate) guidance: Vec<f32>,
    /// Further channels of x: a mask and the picture without what it sets.
    pub(crate) painted_into: Vec<f32>,
}

/// What one input of the graph is fed with.
#[derive(Debug, Clone, Copy)]
enum Feed {
    Sample,
    Timestep,
    TextTokens,
    TextMask,
    PooledText,
    /// Height and width of the picture before cropping, top and left of the crop, height and width asked for (SDXL, section 2.2).
    TimeIds,
    Guidance,
    /// Place of each text token: none.
    TextIds,
    /// Place of each token of x: (0, row, column).
    ImageIds,
    NeighbourMask,
    /// One of the neighbours' features.
    Feature(usize),
}

/// What one input is fed with in one row.
struct Fed<'a> {
    shape: Vec<usize>,
    values: Cow<'a, [f32]>,
    /// Of what lasts as long as the trajectory.
    identity: Option<Identity>,
}

/// The base model on one session.
pub(crate) struct BaseModel {
    session: Session,
    facts: Arc<Facts>,
    feeds: Arc<[(String, Feed)]>,
}

impl BaseModel {
    /// The model on as many sessions as the settings say.
    pub(crate) fn open_all(
        package: &Package,
        facts: &Facts,
        inference: &InferenceSettings,
    ) -> Result<Vec<Self>, ModelError> {
        let feed = |name: &String| {
            let feed = match name.as_str() {
                "x" => Feed::Sample,
                "timestep" => Feed::Timestep,
                "text_tokens" => Feed::TextTokens,
                "text_mask" => Feed::TextMask,
                "pooled_text" if facts.text.pooled_dim.is_some() => Feed::PooledText,
                "time_ids" => Feed::TimeIds,
                "guidance" if facts.guidance.is_some() => Feed::Guidance,
                "text_ids" => Feed::TextIds,
                "image_ids" => Feed::ImageIds,
                "neighbour_mask" => Feed::NeighbourMask,
                name => {
                    let feature = facts.features.iter().position(|feature| feature.name == name);
                    let unknown =
                        || package.wrong(format!("nothing is known here to feed its input {name} with"));
                    Feed::Feature(feature.ok_or_else(unknown)?)
                }
            };
            Ok((name.clone(), feed))
        };
        let feeds =
            package.manifest.graph.inputs.keys().map(feed).collect::<Result<Vec<_>, PackageError>>()?;
        let (facts, feeds) = (Arc::new(facts.clone()), Arc::<[_]>::from(feeds));
        let model = |session| Self { session, facts: Arc::clone(&facts), feeds: Arc::clone(&feeds) };
        Ok(Session::open_all(package, inference)?.into_iter().map(model).collect())
    }
}

impl Facts {
    /// The side of a token of x, for models that take tokens.
    fn patch(&self) -> Option<usize> {
        self.diffusion.latent.as_ref()?.patch
    }

    /// How x becomes tokens, for models that take them.
    fn patches(&self, row: &Evaluation<Conditions>) -> Option<Patches> {
        Some(Patches::new(row.conditions.frame.sample, self.patch()?))
    }

    fn fed<'a>(&self, feed: Feed, row: &'a Evaluation<Conditions>) -> Fed<'a> {
        let (shape, values) = self.shaped(feed, row);
        let identity = match feed {
            Feed::Sample | Feed::Timestep => None,
            Feed::TextTokens | Feed::TextMask | Feed::PooledText | Feed::NeighbourMask => {
                Some(row.of_condition())
            }
            Feed::TimeIds | Feed::Guidance | Feed::TextIds | Feed::ImageIds | Feed::Feature(_) => {
                Some(row.of_trajectory())
            }
        };
        Fed { shape, values, identity }
    }

    fn shaped<'a>(&self, feed: Feed, row: &'a Evaluation<Conditions>) -> (Vec<usize>, Cow<'a, [f32]>) {
        let conditions: &Conditions = &row.conditions;
        let text = conditions.texts.of(row.condition);
        let sees_neighbours = row.condition.neighbours && conditions.has_neighbours;
        let Frame { size, sample: [channels, height, width] } = conditions.frame;
        let borrowed = |shape: &[usize], values: &'a [f32]| (shape.to_vec(), Cow::Borrowed(values));
        match feed {
            Feed::Sample => {
                let values = match &conditions.painted_into[..] {
                    [] => Cow::Borrowed(&row.x[..]),
                    painted_into => [&row.x[..], painted_into].concat().into(),
                };
                if let Some(patches) = self.patches(row) {
                    return (patches.shape().to_vec(), patches.to_tokens(&values).into());
                }
                let channels =
                    if values.len() == row.x.len() { channels } else { values.len() / (height * width) };
                (vec![1, channels, height, width], values)
            }
            Feed::Timestep => (vec![1], vec![row.timestep * self.diffusion.timestep_scale].into()),
            Feed::TextTokens if self.has_neighbours_after_text() => {
                let mut tokens = text.tokens.clone();
                tokens.extend(conditions.features.iter().flatten());
                if !sees_neighbours {
                    tokens[text.tokens.len()..].fill(0.0);
                }
                (vec![1, tokens.len() / self.text.dim, self.text.dim], tokens.into())
            }
            Feed::TextTokens => borrowed(&[1, self.text.max_tokens, self.text.dim], &text.tokens),
            Feed::TextMask => borrowed(&[1, text.mask.len()], &text.mask),
            Feed::PooledText => borrowed(&[1, text.pooled.len()], &text.pooled),
            Feed::TimeIds => {
                let (width, height) = (size.width as f32, size.height as f32);
                (vec![1, 6], vec![height, width, 0.0, 0.0, height, width].into())
            }
            Feed::Guidance if conditions.guidance.len() == 1 => borrowed(&[1], &conditions.guidance),
            Feed::Guidance => borrowed(&[1, conditions.guidance.len()], &conditions.guidance),
            Feed::TextIds => (vec![self.text.max_tokens, 3], vec![0.0; 3 * self.text.max_tokens].into()),
            Feed::ImageIds => {
                let side = self.patch().unwrap_or(1);
                let (rows, columns) = (height / side, width / side);
                let places = (0..rows).flat_map(|row| (0..columns).map(move |column| [0, row, column]));
                (vec![rows * columns, 3], places.flatten().map(|place| place as f32).collect())
            }
            Feed::NeighbourMask => {
                let seen = if sees_neighbours { 1.0 } else { 0.0 };
                (vec![1, conditions.neighbours], vec![seen; conditions.neighbours].into())
            }
            Feed::Feature(feature) => borrowed(
                &[&[1, conditions.neighbours], &self.features[feature].shape[..]].concat(),
                &conditions.features[feature],
            ),
        }
    }
}

impl RowModel for BaseModel {
    type Row = Row<Conditions>;
    type Output = Vec<f32>;

    fn batch(&self) -> usize {
        self.session.batch()
    }

    fn weight(row: &Row<Conditions>) -> f64 {
        row.weight()
    }

    /// With as many neighbours as the model takes.
    fn typical_row(&self) -> Option<Row<Conditions>> {
        let facts = &self.facts;
        let frame = facts.own_frame();
        let [channels, height, width] = frame.sample;
        let neighbours = facts.max_neighbours();
        let feature =
            |feature: &Feature| vec![0.0; neighbours.max(1) * feature.shape.iter().product::<usize>()];
        let painted_into = if facts.paints_into_picture { (channels + 1) * height * width } else { 0 };
        let outputs = if facts.diffusion.learned_variance.is_some() { 2 } else { 1 } * frame.elements();
        let conditions = Conditions {
            frame,
            texts: Texts { with: Text::blank(&facts.text), without: Text::blank(&facts.text) },
            neighbours: neighbours.max(1),
            has_neighbours: neighbours > 0,
            features: facts.features.iter().map(feature).collect(),
            guidance: match facts.guidance {
                None => Vec::new(),
                Some(GuidanceCondition::Weight) => vec![1.0],
                Some(GuidanceCondition::Embedding(width)) => vec![0.0; width],
            },
            painted_into: vec![0.0; painted_into],
        };
        Some(Row::typical(frame.elements(), outputs, conditions))
    }

    fn can_share(one: &Row<Conditions>, other: &Row<Conditions>) -> bool {
        let (one, other) = (&one.evaluation, &other.evaluation);
        let shape = |evaluation: &Evaluation<Conditions>| {
            let Conditions { frame, neighbours, guidance, painted_into, .. } = &*evaluation.conditions;
            (*frame, *neighbours, guidance.len(), painted_into.len(), evaluation.x.len())
        };
        shape(one) == shape(other)
    }

    fn run(&mut self, rows: &mut [Row<Conditions>]) -> Result<Vec<Vec<f32>>, RowError> {
        let Self { session, facts, feeds } = self;
        let (evaluations, mut outs): (Vec<_>, Vec<_>) =
            rows.iter_mut().map(|Row { evaluation, out }| (&*evaluation, out)).unzip();
        let fed: Vec<Vec<(&String, Fed<'_>)>> = evaluations
            .iter()
            .map(|row| feeds.iter().map(|(name, feed)| (name, facts.fed(*feed, row))).collect())
            .collect();
        let data = fed.iter().zip(&mut outs).map(|(fed, out)| RowData {
            inputs: fed.iter().map(|(name, fed)| fed.input(name)).collect(),
            outputs: vec![("prediction", out.as_mut_slice())],
        });
        session.run(&mut data.collect::<Vec<_>>())?;
        for (row, out) in evaluations.iter().zip(&mut outs) {
            if let Some(patches) = facts.patches(row) {
                let tokens = out.clone();
                patches.to_sample(&tokens, out);
            }
        }
        Ok(outs.into_iter().map(std::mem::take).collect())
    }
}

impl Fed<'_> {
    fn input<'a>(&'a self, name: &'a str) -> Input<'a> {
        let Self { shape, values, identity } = self;
        Input { name, shape, values: Values::F32(values), identity: *identity }
    }
}

#[cfg(test)]
mod tests {
    use reverie_diffusion::guidance::Condition;
    use reverie_engine::contract;
    use reverie_packages::Role;

    use super::*;

    #[tokio::test]
    async fn a_row_depends_on_nothing_but_itself() {
        let package = contract::package(Role::Denoiser).await;
        let facts = Facts::of(&package).unwrap();
        let frame = facts.own_frame();
        let text = |value: f32| Text {
            tokens: vec![value; facts.text.max_tokens * facts.text.dim],
            mask: vec![1.0; facts.text.max_tokens],
            pooled: Vec::new(),
        };
        // Rows of one trajectory, rows of others: what lasts is that of its owner.
        let trajectories = [Identity::unique(), Identity::unique()];
        let features = |number: u32| -> Vec<Vec<f32>> {
            let feature = |shape: &[usize]| vec![0.1 + 0.1 * (number / 2) as f32; shape.iter().product()];
            facts.features.iter().map(|taken| feature(&taken.shape)).collect()
        };
        let row = |number: u32, elements: usize| Row {
            evaluation: Evaluation {
                x: Arc::new(contract::values(elements, number)),
                timestep: 100.0 * (1 + number) as f32,
                condition: if number.is_multiple_of(2) { Condition::BOTH } else { Condition::NONE },
                conditions: Arc::new(Conditions {
                    frame,
                    texts: Texts { with: text(0.3), without: text(-0.2) },
                    neighbours: 1,
                    has_neighbours: true,
                    features: features(number),
                    guidance: Vec::new(),
                    painted_into: Vec::new(),
                }),
                identity: trajectories[number as usize / 2],
            },
            out: vec![0.0; frame.elements()],
        };
        let open = |inference: &InferenceSettings| BaseModel::open_all(&package, &facts, inference).unwrap();
        contract::check(open, |number| row(number, frame.elements()), || row(0, 7));
    }
}
