//! The decoder and the encoder of latents.

use reverie_packages::package::manifest::MAX_CHANNELS;
use reverie_packages::package::{DType, Extent, LatentScale, Role};

use crate::ImportError;
use crate::bundle::{Content, Draft};
use crate::graph::{Part, batch_of};
use crate::keys::Keys;
use crate::pipeline::{Family, Pipeline};
use crate::source::Source;

/// The latents of a bundle.
#[derive(Debug, Clone)]
pub(crate) struct Latents {
    pub(crate) scale: LatentScale,
    /// Identity of the decoder.
    pub(crate) decoder: String,
}

/// That of Stable Diffusion, which old configurations do not state.
const SCALING_FACTOR: f32 = 0.18215;

/// What counts beside the graph, in the words of both halves' configurations.
fn scale(keys: &Keys, family: Family) -> Result<LatentScale, ImportError> {
    let blocks = keys.need::<Vec<usize>>(&["block_out_channels"])?.len();
    if !(1..=8).contains(&blocks) {
        return Err(keys.wrong("block_out_channels", "must be 1 to 8 blocks"));
    }
    let channels = keys.need(&["latent_channels"])?;
    if !(1..=MAX_CHANNELS).contains(&channels) {
        return Err(keys.wrong("latent_channels", format!("must be 1 to {MAX_CHANNELS}")));
    }
    // The other pipelines do not look at it.
    if family == Family::StableDiffusionXl && keys.has("latents_mean") && keys.has("latents_std") {
        return Err(keys.wrong(
            "latents_mean",
            "must be null: a latent that is scaled channel by channel is not served",
        ));
    }
    let scale = keys.get("scaling_factor")?.unwrap_or(SCALING_FACTOR);
    if scale <= 0.0 {
        return Err(keys.wrong("scaling_factor", "must be above 0"));
    }
    // The other pipelines do not look at it either.
    let is_shifted = matches!(family, Family::StableDiffusion3 | Family::Flux);
    let shift = if is_shifted { keys.get("shift_factor")? } else { None };
    // Each block but the last halves the picture.
    Ok(LatentScale { channels, downscale: 1 << (blocks - 1), scale, shift: shift.unwrap_or_default() })
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
    let family = pipeline.family;
    let keys = Keys::read(source, "vae_decoder/config.json", "it says how latents are scaled")?;
    let scale = scale(&keys, family)?;
    let content = |role, what: &str| Content {
        role,
        description: format!("{what} of {}.", pipeline.class),
        of: "vae_decoder/config.json".to_owned(),
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
    if keys.is("force_upcast")? && part.input_dtype("latent_sample") == Some(DType::F16) {
        let why = "its decoder was trained in 32 bits and overflows in 16 (force_upcast): export vae_decoder in 32 bits if pictures fail";
        draft.notes.push(why.to_owned());
    }
    let decoder = draft.package(
        source,
        "latent-decoder",
        &part,
        content(Role::LatentDecoder, "Decoder of the latents"),
    )?;
    draft.packages.latent_decoder = Some("latent-decoder".to_owned());

    if source.has("vae_encoder") {
        if source.has("vae_encoder/config.json") {
            let keys = Keys::read(source, "vae_encoder/config.json", "")?;
            check_same(&keys, scale, self::scale(&keys, family)?)?;
        }
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
            source,
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

/// Both halves are one autoencoder: what the encoder makes is what the decoder reads.
fn check_same(keys: &Keys, decoder: LatentScale, encoder: LatentScale) -> Result<(), ImportError> {
    let differing = [
        ("latent_channels", decoder.channels != encoder.channels),
        ("block_out_channels", decoder.downscale != encoder.downscale),
        ("scaling_factor", decoder.scale.to_bits() != encoder.scale.to_bits()),
        ("shift_factor", decoder.shift.to_bits() != encoder.shift.to_bits()),
    ];
    match differing.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((key, _)) => Err(keys.wrong(key, "must be that of vae_decoder/config.json")),
    }
}
