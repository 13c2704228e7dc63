//! The decoder and the encoder of latents.

use reverie_inference::package::manifest::MAX_CHANNELS;
use reverie_inference::package::{DType, Extent, LatentScale, Role};
use serde::Deserialize;

use crate::ImportError;
use crate::bundle::{Content, Draft};
use crate::graph::{Part, batch_of};
use crate::pipeline::Pipeline;
use crate::source::Source;

/// The latents of a bundle.
#[derive(Debug, Clone)]
pub(crate) struct Latents {
    pub(crate) scale: LatentScale,
    /// Identity of the decoder.
    pub(crate) decoder: String,
}

#[derive(Deserialize)]
struct Config {
    latent_channels: usize,
    block_out_channels: Vec<usize>,
    #[serde(default = "stable_diffusion")]
    scaling_factor: f32,
    #[serde(default)]
    shift_factor: Option<f32>,
    #[serde(default)]
    latents_mean: Option<Vec<f32>>,
    #[serde(default)]
    latents_std: Option<Vec<f32>>,
    #[serde(default)]
    force_upcast: bool,
}

/// That of Stable Diffusion, which old configurations do not state.
fn stable_diffusion() -> f32 {
    0.18215
}

/// Imports the decoder, and the encoder if there is one. None for pipelines that work on pixels.
pub(crate) fn import(
    source: &Source,
    pipeline: &Pipeline,
    draft: &mut Draft,
) -> Result<Option<Latents>, ImportError> {
    if !pipeline.works_on_latents() {
        return Ok(None);
    }
    let path = "vae_decoder/config.json";
    let why = "it says how latents are scaled";
    let config: Config = source.json(path, why)?;
    let wrong = |why: &str| Ok::<_, ImportError>(ImportError::wrong(&source.file(path, "")?, why));
    if config.latents_mean.is_some() || config.latents_std.is_some() {
        return Err(wrong(
            "scales each channel of the latent by itself (latents_mean), which is not known here",
        )?);
    }
    let blocks = config.block_out_channels.len();
    if !(1..=8).contains(&blocks) {
        return Err(wrong("block_out_channels must be 1 to 8 blocks")?);
    }
    if !(1..=MAX_CHANNELS).contains(&config.latent_channels) {
        return Err(wrong("latent_channels is out of range")?);
    }
    let scale = LatentScale {
        channels: config.latent_channels,
        // Each block but the last halves the picture.
        downscale: 1 << (blocks - 1),
        scale: config.scaling_factor,
        shift: config.shift_factor.unwrap_or_default(),
    };
    let content = |role, what: &str| Content {
        role,
        description: format!("{what} of {}.", pipeline.class),
        texts: Vec::new(),
        facts: Box::new(move |manifest| manifest.latent = Some(scale)),
    };
    let shape = |channels| {
        let [height, width] = ["height", "width"].map(|axis| Extent::Dynamic(axis.to_owned()));
        Some([batch_of(&[channels]), vec![height, width]].concat())
    };
    let mut part = Part::read(source, "vae_decoder")?;
    part.input("latent", "latent_sample", shape(scale.channels))?;
    part.check_inputs()?;
    part.output("picture", "sample", shape(3))?;
    if config.force_upcast && part.input_dtype("latent_sample") == Some(DType::F16) {
        let why = "its decoder was trained in 32 bits and overflows in 16 (force_upcast): export vae_decoder in 32 bits if pictures fail";
        draft.notes.push(why.to_owned());
    }
    let decoder =
        draft.package("latent-decoder", &part, content(Role::LatentDecoder, "Decoder of the latents"))?;
    draft.packages.latent_decoder = Some("latent-decoder".to_owned());

    if source.has("vae_encoder") {
        let mut part = Part::read(source, "vae_encoder")?;
        part.input("picture", "sample", shape(3))?;
        part.check_inputs()?;
        // The mean and the logarithm of the variance; older exporters draw from it in the graph.
        let (theirs, channels) = if part.gives("latent_parameters") {
            ("latent_parameters", 2 * scale.channels)
        } else {
            draft.notes.push(
                "vae_encoder draws its latent at random, so image to image differs from run to run"
                    .to_owned(),
            );
            ("latent_sample", scale.channels)
        };
        part.output("latent", theirs, shape(channels))?;
        draft.package(
            "latent-encoder",
            &part,
            content(Role::LatentEncoder, "Encoder of pictures to latents"),
        )?;
        draft.packages.latent_encoder = Some("latent-encoder".to_owned());
    } else {
        draft.notes.push("there is no vae_encoder: no picture can be drawn from another one".to_owned());
    }
    Ok(Some(Latents { scale, decoder }))
}
