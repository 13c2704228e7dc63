//! What a diffusion model is conditioned on: `[conditions]`.

use serde::{Deserialize, Serialize};

use super::manifest::MAX_EXTENT;

/// What a diffusion model is conditioned on; what is missing it does not take.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Text tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextCondition>,
    /// Neighbour features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<NeighbourConditions>,
    /// Conditioning augmentation level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_level: Option<NoiseLevelCondition>,
    /// The smaller picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_resolution: Option<LowResolutionCondition>,
    /// The weight of guidance, told to the model instead of evaluating it twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<GuidanceCondition>,
    /// A mask and the picture without what it sets, as further channels of x: [x, mask, masked picture].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_picture: Option<Present>,
}

impl Conditions {
    pub(super) fn validate(&self) -> Result<(), String> {
        let is_extent = |extent: usize| (1..=MAX_EXTENT).contains(&extent);
        if let Some(text) = &self.text
            && ![text.dim, text.max_tokens, text.pooled_dim.unwrap_or(1)].into_iter().all(is_extent)
        {
            return Err(format!("[conditions.text] has an extent that is not 1 to {MAX_EXTENT}"));
        }
        if let Some(neighbours) = &self.neighbours
            && !(is_extent(neighbours.max) && is_extent(neighbours.image_size))
        {
            return Err(format!("[conditions.neighbours] has a number that is not 1 to {MAX_EXTENT}"));
        }
        if let Some(GuidanceCondition::Embedding(width)) = self.guidance
            && !is_extent(width)
        {
            return Err(format!("conditions.guidance.embedding must be 1 to {MAX_EXTENT}"));
        }
        Ok(())
    }

    pub(super) fn is_none(&self) -> bool {
        let Self { text, neighbours, noise_level, low_resolution, guidance, masked_picture } = self;
        text.is_none()
            && neighbours.is_none()
            && noise_level.is_none()
            && low_resolution.is_none()
            && guidance.is_none()
            && masked_picture.is_none()
    }
}

/// A condition without facts of its own.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Present {}

/// Text tokens as a condition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextCondition {
    /// Width of a token.
    pub dim: usize,
    /// Tokens of a text, padding included.
    pub max_tokens: usize,
    /// Width of the pooled text, where the model takes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooled_dim: Option<usize>,
    /// Digest of the text encoder that it was trained with; of several encoders their
    /// [`joint_digest`](crate::package::joint_digest).
    pub encoder: String,
    /// What evaluations without text see, unless there is a negative prompt.
    #[serde(default)]
    pub without: WithoutText,
}

/// What an evaluation of the model sees in place of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutText {
    /// The text with every token masked; for models that take a mask.
    #[default]
    Masked,
    /// The empty text, encoded.
    EmptyText,
    /// Zeros.
    Zeros,
}

/// Neighbours as a condition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourConditions {
    /// How many it takes at most.
    pub max: usize,
    /// Side of a neighbour's picture, pixels.
    pub image_size: usize,
    /// Outputs of the neighbour encoder that are inputs of this model, with one more axis.
    pub features: Vec<String>,
    /// Whether the one feature is a token that follows those of the text, as in retrieval-augmented diffusion models
    /// (Blattmann et al., 2022), instead of an input of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_text: bool,
    /// SHA-256 of the graph of the neighbour encoder it was trained with.
    pub encoder: String,
}

/// The conditioning augmentation level as a condition.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseLevelCondition {
    /// Whether the model is told the timestep of the noise, a whole number, instead of 0 to 1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timesteps: bool,
}

/// The smaller picture as a condition.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowResolutionCondition {
    /// Whether it is three further channels of x instead of an input of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub concatenated: bool,
    /// Whether the corners of both pictures lie on each other when it is enlarged (PyTorch's `align_corners`), instead of
    /// their edges.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub align_corners: bool,
}

/// The weight of guidance as a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GuidanceCondition {
    /// The weight itself (FLUX).
    Weight,
    /// The sine and cosine embedding, of this width, of the weight - 1 (latent consistency models).
    Embedding(usize),
}
