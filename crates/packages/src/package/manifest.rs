//! `model.toml`: what a package says of itself. Reading and writing go through these types, so that what an import writes is
//! what a service reads.

use std::collections::BTreeMap;

use reverie_diffusion::SamplerKind;
use reverie_storage::FileDigest;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::conditions::Conditions;
use super::defaults::Defaults;
use super::diffusion::DiffusionFacts;
use super::numbers::{check_factors, check_finite, check_offsets};

/// Bounds on what a file can make us allocate: tokens of a text, widths of tokens and vectors.
pub const MAX_EXTENT: usize = 65_536;
/// The most channels of a latent.
pub const MAX_CHANNELS: usize = 1024;

/// The longest shorter side that a picture is brought to before its middle is cut out, pixels.
pub const MAX_SHORTER_SIDE: usize = 4096;

/// The version of the format that is known here.
pub const SCHEMA: u32 = 1;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Text to tokens for cross-attention, to a pooled vector, or to both.
    TextEncoder,
    /// Text to the joint text-image space.
    JointText,
    /// Picture to the joint text-image space.
    JointImage,
    /// Neighbour picture and caption to features for the denoiser.
    NeighbourEncoder,
    /// The base diffusion model.
    Denoiser,
    /// A super-resolution diffusion model.
    SuperResolution,
    /// Latent to picture.
    LatentDecoder,
    /// Picture to latent.
    LatentEncoder,
    /// Names what a picture shows, to judge what models draw.
    Judge,
}

/// `model.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format; 1.
    pub schema: u32,
    /// The package's name.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// What the model is for.
    pub role: Role,
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// SPDX licence expression.
    pub license: String,
    /// Every file but this one.
    pub files: Vec<FileDigest>,
    /// The graph and its tensors.
    pub graph: Graph,
    /// For encoders of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerFacts>,
    /// For encoders of text that work beside others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextFacts>,
    /// For encoders of pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureFacts>,
    /// For diffusion models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diffusion: Option<DiffusionFacts>,
    /// For models between pictures and latents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentScale>,
    /// What a diffusion model is conditioned on.
    #[serde(default, skip_serializing_if = "Conditions::is_none")]
    pub conditions: Conditions,
    /// What a request that says nothing gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// What a judge names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeFacts>,
    /// Where the model comes from; for people.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub provenance: toml::Table,
}

/// The graph and its tensors.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// The ONNX file.
    pub file: String,
    /// Files of weights that the graph names, for graphs too large for one file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_data: Vec<String>,
    /// Our name of each input.
    pub inputs: BTreeMap<String, TensorFacts>,
    /// Our name of each output.
    pub outputs: BTreeMap<String, TensorFacts>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorFacts {
    /// The graph's name of it.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents; a name is a dynamic axis. An extent of 1 after the batch may be missing in the graph.
    pub shape: Vec<Extent>,
    /// Outputs: whether each vector along the last axis is brought to unit length.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unit_length: bool,
}

/// Element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
}

/// One extent of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Extent {
    /// Always this.
    Fixed(usize),
    /// Chosen by each run.
    Dynamic(String),
}

/// How text becomes tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerFacts {
    /// Hugging Face `tokenizer.json`.
    pub file: String,
    /// Length that texts are padded to.
    pub max_tokens: usize,
    /// Token that pads.
    pub pad_id: u32,
    /// Whether texts are brought to lower case first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lowercase: bool,
    /// Whether the attention mask that the graph is given hides no padding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmasked: bool,
}

/// The place of one text encoder among several that read the same prompt.
///
/// The tokens of encoders of the same block stand side by side: one token has the features of all of them, in the bundle's
/// order. Blocks follow each other: their tokens are padded with zeros to the widest block, and put one after another.
/// (SD3: two CLIP encoders are block 0, T5 is block 1. SDXL: both are block 0.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFacts {
    /// The block that its tokens belong to.
    pub block: usize,
    /// Zeros in the place of an encoder that was left out; a block of their own, after all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

/// The extents of what an encoder would have given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Tokens.
    pub tokens: usize,
    /// Their width.
    pub width: usize,
}

/// How a picture becomes the input of its encoder: (pixel / 255 - mean) / std, channel by channel. Unless it says otherwise,
/// pixels are brought to [-1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureFacts {
    /// Of red, green and blue.
    #[serde(deserialize_with = "channels")]
    pub mean: [f32; 3],
    /// Of red, green and blue; 1e-6 to 1e6.
    #[serde(deserialize_with = "channels")]
    pub std: [f32; 3],
    /// Whether a picture's shorter side is brought to the encoder's size and the middle is cut out, instead of squeezing the
    /// whole into a square.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crop: bool,
    /// Where the middle is cut out of more than that: the length that the shorter side is brought to, pixels, from the encoder's
    /// size to 4096. Default: the encoder's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shorter_side: Option<usize>,
}

/// Three numbers and no more: an array of a fixed length would be read from a longer one, without what is too much.
fn channels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f32; 3], D::Error> {
    let values = Vec::<f32>::deserialize(deserializer)?;
    let count = values.len();
    values.try_into().map_err(|_| D::Error::custom(format!("must be 3 numbers (got {count})")))
}

impl PictureFacts {
    /// What the shorter side of a picture is resized to, for an encoder of `side` pixels, before the middle is cut out; none where
    /// the whole is squeezed into a square.
    pub fn resized_to(self, side: u32) -> Option<u32> {
        let shorter = self.shorter_side.and_then(|shorter| u32::try_from(shorter).ok());
        self.crop.then(|| shorter.unwrap_or(side))
    }
}

/// How latents are scaled for the diffusion model: (latent of the encoder - shift) x scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentScale {
    /// Channels.
    pub channels: usize,
    /// Pixels of the picture along the side of one latent pixel.
    pub downscale: usize,
    /// `scaling_factor` of the autoencoder, 1e-6 to 1e6.
    pub scale: f32,
    /// `shift_factor` of the autoencoder.
    #[serde(default)]
    pub shift: f32,
}

/// What a judge names in a picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeFacts {
    /// Side of the pictures it takes, pixels.
    pub image_size: u32,
    /// The factors, in the order of its logits.
    pub factors: Vec<Factor>,
}

/// Something that pictures differ in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// Its name.
    pub name: String,
    /// What decides it.
    pub kind: FactorKind,
    /// What it may be; one logit each.
    pub values: Vec<String>,
}

/// What decides a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FactorKind {
    /// What the creature is; a prompt that only names it does not say.
    Genome,
    /// What the prompt says of the scene.
    Scene,
}

impl Graph {
    /// The extents of one sample of a tensor, which is all but the first, the batch. None if one is open.
    pub fn sample_extents(facts: &TensorFacts) -> Option<Vec<usize>> {
        let fixed = |extent: &Extent| match extent {
            Extent::Fixed(extent) => Some(*extent),
            Extent::Dynamic(_) => None,
        };
        facts.shape.iter().skip(1).map(fixed).collect()
    }
}

impl Manifest {
    /// The model's identity: SHA-256 of its graph, lower-case hex; with weights in files beside the graph the
    /// [`joint_digest`](super::joint_digest) of all of them, the graph first.
    pub fn digest(&self) -> String {
        let digest_of = |path: &String| {
            let file = self.files.iter().find(|file| file.path == *path);
            file.map_or("", |file| file.sha256.as_str())
        };
        super::joint_digest([&self.graph.file].into_iter().chain(&self.graph.external_data).map(digest_of))
    }

    /// Finds what is wrong in itself, and whether the package is for `role`.
    pub fn validate(&self, role: Role) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {} is not known here, only {SCHEMA}", self.schema));
        }
        if self.role != role {
            return Err(format!("its role is {:?}, {role:?} is needed here", self.role));
        }
        let tokenizer = self.tokenizer.as_ref().map(|tokenizer| &tokenizer.file);
        for file in [&self.graph.file].into_iter().chain(&self.graph.external_data).chain(tokenizer) {
            if !self.files.iter().any(|listed| listed.path == *file) {
                return Err(format!("{file} is used but not listed in [[files]] with its checksum"));
            }
        }
        let is_extent = |extent: usize| (1..=MAX_EXTENT).contains(&extent);
        if self.tokenizer.as_ref().is_some_and(|tokenizer| !is_extent(tokenizer.max_tokens)) {
            return Err(format!("tokenizer.max_tokens must be 1 to {MAX_EXTENT}"));
        }
        if let Some(LeftOut { tokens, width }) = self.text.and_then(|text| text.left_out)
            && !(is_extent(tokens) && is_extent(width))
        {
            return Err(format!("text.left_out must have extents of 1 to {MAX_EXTENT}"));
        }
        // Blocks are walked through one by one.
        if self.text.is_some_and(|text| text.block > 15) {
            return Err("text.block must be at most 15".to_owned());
        }
        self.conditions.validate()?;
        check_finite("picture", self.picture.as_ref())?;
        check_finite("latent", self.latent.as_ref())?;
        check_finite("diffusion", self.diffusion.as_ref())?;
        check_finite("defaults", self.defaults.as_ref())?;
        if let Some(picture) = &self.picture {
            check_offsets("picture.mean", &picture.mean)?;
            check_factors("picture.std", &picture.std)?;
        }
        let shorter = self.picture.and_then(|picture| picture.shorter_side);
        if shorter.is_some_and(|shorter| !(1..=MAX_SHORTER_SIDE).contains(&shorter)) {
            return Err(format!("picture.shorter_side must be 1 to {MAX_SHORTER_SIDE}"));
        }
        if let Some(LatentScale { channels, downscale, scale, shift }) = self.latent {
            if !((1..=MAX_CHANNELS).contains(&channels) && is_extent(downscale)) {
                return Err("latent.channels or latent.downscale is out of range".to_owned());
            }
            check_factors("latent.scale", &[scale])?;
            check_offsets("latent.shift", &[shift])?;
        }
        if let Some(diffusion) = &self.diffusion {
            diffusion.validate()?;
            if self.defaults.as_ref().is_some_and(|defaults| defaults.sampler == SamplerKind::Lcm)
                && diffusion.distilled_steps.is_none()
            {
                return Err("the sampler lcm is for models that have diffusion.distilled_steps".to_owned());
            }
        }
        if let Some(defaults) = &self.defaults {
            defaults.validate()?;
            if self.diffusion.as_ref().is_some_and(|d| defaults.steps > d.train_timesteps) {
                return Err("defaults.steps must be 1 to diffusion.train_timesteps".to_owned());
            }
        }
        Ok(())
    }
}
