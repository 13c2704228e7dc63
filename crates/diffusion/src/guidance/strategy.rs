//! How the two conditions guide, and with which weights.

use serde::{Deserialize, Serialize};

/// How interleaved guidance chooses between text and neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// R drawn anew at each step, from its own stream: the paper.
    Random,
    /// Text at step i iff floor((i + 1) ratio) > floor(i ratio): the same shares, evenly spread.
    LowDiscrepancy,
}

/// How the two conditions guide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Text-enhanced at a share `ratio` of the steps, neighbour-enhanced at the others; 2 rows per step.
    Interleaved {
        /// Re-Imagen's interleave ratio, in [0, 1]; lower is truer to the neighbours, 0.5 the paper's choice.
        ratio: f32,
        /// Who decides.
        draw: Draw,
    },
    /// Both at every step; 3 rows per step.
    Weighted {
        /// The share of the text-enhanced output, in [0, 1].
        ratio: f32,
    },
    /// Both conditions or neither, weighted by the text weight; 2 rows per step.
    Joint,
    /// Guided by the text alone (Imagen, super-resolution); neighbours, if any, are seen by both rows; 2 rows per step.
    Text,
    /// No guidance; 1 row a step.
    Off,
}

/// A strategy with its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// How the two conditions guide.
    pub strategy: Strategy,
    /// w_p, at least 0; 1 is no guidance.
    pub text_weight: f32,
    /// w_n, at least 0; 1 is no guidance.
    pub neighbour_weight: f32,
}

impl Guidance {
    /// No guidance.
    pub const OFF: Self = Self { strategy: Strategy::Off, text_weight: 1.0, neighbour_weight: 1.0 };
}

/// Why guidance is refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum GuidanceError {
    /// A ratio is a share of steps.
    #[error("interleave_ratio must be in [0, 1], not {0}")]
    Ratio(f32),
    /// w_p must be finite and not negative.
    #[error("text_weight must be at least 0 and finite, not {0}")]
    TextWeight(f32),
    /// w_n must be finite and not negative.
    #[error("neighbour_weight must be at least 0 and finite, not {0}")]
    NeighbourWeight(f32),
    /// The rescaled share of the guided output.
    #[error("guidance_rescale must be in [0, 1], not {0}")]
    Rescale(f32),
}
