//! The base model as the step scheduler sees it: rows in, predictions out.

use reverie_denoising::{ModelError as ForwardError, Row, RowModel};
use reverie_inference::{Input, ModelError, Package, SessionPool, Values};

use crate::Settings;
use crate::convert::Facts;

/// What the rows of one picture are conditioned on.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// What rows with text see.
    pub(crate) text: Text,
    /// What rows without text see: the negative prompt, or the text with every token hidden.
    pub(crate) negative_text: Text,
    /// K, at least 1: without neighbours there is one that is hidden.
    pub(crate) neighbours: usize,
    /// Whether the neighbours are real.
    pub(crate) has_neighbours: bool,
    /// Features of all neighbours, one tensor `[K, …]` a feature.
    pub(crate) features: Vec<Vec<f32>>,
}

/// A text, as the model takes it.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// f32 `[max_tokens, dim]`.
    pub(crate) tokens: Vec<f32>,
    /// f32 `[max_tokens]`, 1 for a real token.
    pub(crate) mask: Vec<f32>,
}

pub(crate) struct BaseModel {
    pool: SessionPool,
    facts: Facts,
    max_rows: usize,
}

impl BaseModel {
    pub(crate) fn load(package: &Package, facts: &Facts, settings: &Settings) -> Result<Self, ModelError> {
        let pool = SessionPool::load(package, &settings.inference)?;
        Ok(Self { pool, facts: facts.clone(), max_rows: settings.scheduler.max_rows_per_tick })
    }
}

impl RowModel for BaseModel {
    type Conditions = Conditions;

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn forward(&mut self, rows: &mut [Row<'_, Conditions>]) -> Result<(), ForwardError> {
        let facts = &self.facts;
        let (side, tokens) = (facts.side, facts.text.max_tokens);
        self.pool
            .for_each(rows, |model, row| {
                let Conditions { text, negative_text, neighbours, has_neighbours, features } = row.conditions;
                let text = if row.condition.text { text } else { negative_text };
                let seen = if row.condition.neighbours && *has_neighbours { 1.0 } else { 0.0 };
                let neighbour_mask = vec![seen; *neighbours];
                let shapes: Vec<Vec<usize>> = facts
                    .features
                    .iter()
                    .map(|feature| [&[1, *neighbours], &feature.shape[..]].concat())
                    .collect();
                let timestep = [row.timestep];
                let (x_shape, text_shape) = ([1, 3, side, side], [1, tokens, facts.text.dim]);
                let (text_mask_shape, neighbour_mask_shape) = ([1, tokens], [1, *neighbours]);
                let input = |name, shape, values| Input { name, shape, values: Values::F32(values) };
                let mut inputs = vec![
                    input("x", &x_shape[..], row.x),
                    input("timestep", &[1], &timestep),
                    input("text_tokens", &text_shape, &text.tokens),
                    input("text_mask", &text_mask_shape, &text.mask),
                    input("neighbour_mask", &neighbour_mask_shape, &neighbour_mask),
                ];
                for ((feature, shape), values) in facts.features.iter().zip(&shapes).zip(features) {
                    inputs.push(input(&feature.name, shape, values));
                }
                model.run(&inputs, &mut [("prediction", &mut *row.out)])
            })
            .map_err(ForwardError::new)
    }
}
