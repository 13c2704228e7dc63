//! The base model: what its rows are conditioned on, and what each of its inputs takes.

use std::borrow::Cow;

use reverie_engine::trajectory::{self, Evaluation, Row};
use reverie_packages::package::GuidanceCondition;
use reverie_stage::feeds::{Fed, FedModel, Feeds};
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
pub(crate) enum Feed {
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

/// The base model on one session.
pub(crate) type BaseModel = FedModel<Facts>;

impl Facts {
    /// The side of a token of x, for models that take tokens.
    fn patch(&self) -> Option<usize> {
        self.diffusion.latent.as_ref()?.patch
    }

    /// How x becomes tokens, for models that take them.
    fn patches(&self, row: &Evaluation<Conditions>) -> Option<Patches> {
        Some(Patches::new(row.conditions.frame.sample, self.patch()?))
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

impl Facts {
    /// A row of the model's own size that is all zero.
    fn row_with(&self, neighbours: usize) -> Row<Conditions> {
        let frame = self.own_frame();
        let [channels, height, width] = frame.sample;
        let feature =
            |feature: &Feature| vec![0.0; neighbours.max(1) * feature.shape.iter().product::<usize>()];
        let painted_into = if self.paints_into_picture { (channels + 1) * height * width } else { 0 };
        let outputs = if self.diffusion.learned_variance.is_some() { 2 } else { 1 } * frame.elements();
        let conditions = Conditions {
            frame,
            texts: Texts { with: Text::blank(&self.text), without: Text::blank(&self.text) },
            neighbours: neighbours.max(1),
            has_neighbours: neighbours > 0,
            features: self.features.iter().map(feature).collect(),
            guidance: match self.guidance {
                None => Vec::new(),
                Some(GuidanceCondition::Weight) => vec![1.0],
                Some(GuidanceCondition::Embedding(width)) => vec![0.0; width],
            },
            painted_into: vec![0.0; painted_into],
        };
        Row::typical(frame.elements(), outputs, conditions)
    }
}

impl trajectory::Conditions for Conditions {
    fn count(&self) -> usize {
        self.neighbours
    }
}

impl Feeds for Facts {
    type Conditions = Conditions;
    type Feed = Feed;

    fn feed(&self, name: &str) -> Option<Feed> {
        Some(match name {
            "x" => Feed::Sample,
            "timestep" => Feed::Timestep,
            "text_tokens" => Feed::TextTokens,
            "text_mask" => Feed::TextMask,
            "pooled_text" if self.text.pooled_dim.is_some() => Feed::PooledText,
            "time_ids" => Feed::TimeIds,
            "guidance" if self.guidance.is_some() => Feed::Guidance,
            "text_ids" => Feed::TextIds,
            "image_ids" => Feed::ImageIds,
            "neighbour_mask" => Feed::NeighbourMask,
            name => Feed::Feature(self.features.iter().position(|feature| feature.name == name)?),
        })
    }

    fn fed<'a>(&self, feed: Feed, row: &'a Evaluation<Conditions>) -> Fed<'a> {
        let (shape, values) = self.shaped(feed, row);
        let fed = Fed::once(&shape, values);
        match feed {
            Feed::Sample | Feed::Timestep => fed,
            Feed::TextTokens | Feed::TextMask | Feed::PooledText | Feed::NeighbourMask => {
                fed.lasting(row.of_condition())
            }
            Feed::TimeIds | Feed::Guidance | Feed::TextIds | Feed::ImageIds | Feed::Feature(_) => {
                fed.lasting(row.of_trajectory())
            }
        }
    }

    /// With as many neighbours as the model takes, and with as few.
    fn typical_rows(&self) -> Vec<Row<Conditions>> {
        let most = self.max_neighbours();
        let fewest = (most > 1).then_some(1);
        [most].into_iter().chain(fewest).map(|neighbours| self.row_with(neighbours)).collect()
    }

    fn can_share(one: &Evaluation<Conditions>, other: &Evaluation<Conditions>) -> bool {
        let shape = |evaluation: &Evaluation<Conditions>| {
            let Conditions { frame, neighbours, guidance, painted_into, .. } = &*evaluation.conditions;
            (*frame, *neighbours, guidance.len(), painted_into.len(), evaluation.x.len())
        };
        shape(one) == shape(other)
    }

    /// Models that take tokens of patches give such tokens.
    fn settle(&self, row: &Evaluation<Conditions>, prediction: &mut [f32]) {
        if let Some(patches) = self.patches(row) {
            let tokens = prediction.to_vec();
            patches.to_sample(&tokens, prediction);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reverie_diffusion::guidance::Condition;
    use reverie_engine::{Identity, InferenceSettings, contract};
    use reverie_packages::Role;

    use super::*;

    #[tokio::test]
    async fn a_row_depends_on_nothing_but_itself() {
        let package = contract::package(Role::Denoiser).await;
        let facts = Arc::new(Facts::of(&package).unwrap());
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
