//! The base model as its lane runs it: rows in, predictions out.

use std::borrow::Cow;
use std::sync::Arc;

use reverie_engine::trajectory::Row;
use reverie_engine::{InferenceSettings, Input, ModelError, RowError, RowModel, Session, Values};
use reverie_packages::{Package, PackageError};
use reverie_stage::text::Texts;

use crate::facts::{Facts, Frame};
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

    /// Extents and elements of what an input is fed with.
    fn fed<'a>(&self, feed: Feed, row: &'a Row<Conditions>) -> (Vec<usize>, Cow<'a, [f32]>) {
        let conditions: &Conditions = &row.conditions;
        let text = conditions.texts.of(row.condition);
        let sees_neighbours = row.condition.neighbours && conditions.has_neighbours;
        let Frame { size, sample: [channels, height, width] } = conditions.frame;
        let borrowed = |shape: &[usize], values: &'a [f32]| (shape.to_vec(), Cow::Borrowed(values));
        match feed {
            Feed::Sample if conditions.painted_into.is_empty() => {
                borrowed(&[1, channels, height, width], &row.x)
            }
            Feed::Sample => {
                let all = [&row.x[..], &conditions.painted_into].concat();
                (vec![1, all.len() / (height * width), height, width], all.into())
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

    fn run(&mut self, mut row: Row<Conditions>) -> Result<Vec<f32>, RowError> {
        let Self { session, facts, feeds } = self;
        let mut out = std::mem::take(&mut row.out);
        let mut fed: Vec<_> = feeds.iter().map(|(name, feed)| (name, facts.fed(*feed, &row))).collect();
        let Some(patch) = facts.patch() else {
            let inputs: Vec<_> = fed.iter().map(|(name, fed)| input(name, fed)).collect();
            session.run(&inputs, &mut [("prediction", &mut out)])?;
            return Ok(out);
        };
        let patches = Patches::new(row.conditions.frame.sample, patch);
        for ((_, feed), (_, (shape, values))) in feeds.iter().zip(&mut fed) {
            if let Feed::Sample = feed {
                (*shape, *values) = (patches.shape().to_vec(), patches.to_tokens(values).into());
            }
        }
        let inputs: Vec<_> = fed.iter().map(|(name, fed)| input(name, fed)).collect();
        let mut tokens = vec![0.0; out.len()];
        session.run(&inputs, &mut [("prediction", &mut tokens)])?;
        patches.to_sample(&tokens, &mut out);
        Ok(out)
    }
}

fn input<'a>(name: &'a str, (shape, values): &'a (Vec<usize>, Cow<'_, [f32]>)) -> Input<'a> {
    Input { name, shape, values: Values::F32(values) }
}
