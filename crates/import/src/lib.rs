//! Bundles from the folders that Hugging Face exporters write.
//!
//! A pipeline of diffusers that was exported to ONNX is a folder: `model_index.json` names the pipeline and its parts, each part
//! has a folder with its configuration and its graph (`text_encoder`, `unet` or `transformer`, `vae_decoder`, `vae_encoder`),
//! `scheduler` and `tokenizer` have none. [`import`] writes a bundle from it: a package for each graph, with a `model.toml`
//! that says of it what diffusers knows by the class of the pipeline.
//!
//! Nothing of a source is trusted: links and paths that lead out of it are refused, files are read up to a limit, graphs are
//! described without running them. What cannot be served as diffusers would serve it is refused, with the reason.

mod adapters;
mod autoencoder;
mod bundle;
mod denoiser;
mod error;
mod graph;
mod keys;
mod neighbours;
mod pipeline;
mod scheduler;
mod source;
mod super_resolution;
mod text;
mod tokenizer;

use std::path::{Path, PathBuf};

pub use reverie_diffusion::SamplerKind;

pub use self::error::ImportError;

use self::bundle::Draft;
use self::denoiser::Surroundings;
use self::pipeline::{Family, Pipeline};
use self::source::Source;

/// What is imported, and what its folder does not say.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The exported pipeline.
    pub from: PathBuf,
    /// Exported super-resolution pipelines of a pixel cascade, from small to large.
    pub super_resolution: Vec<PathBuf>,
    /// The bundle's name; else that of the folder.
    pub name: Option<String>,
    /// Side of the picture, pixels; else what the model was trained on.
    pub size: Option<usize>,
    /// The sampler of a request that does not say; else the pipeline's scheduler.
    pub sampler: Option<SamplerKind>,
    /// Steps of a request that does not say; else the pipeline's own default.
    pub steps: Option<u32>,
    /// Guidance weight of a request that does not say; else the pipeline's own default.
    pub guidance_weight: Option<f32>,
    /// SPDX expression of the licence that the models are under.
    pub license: Option<String>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The class of the pipeline, as `model_index.json` names it.
    pub pipeline: String,
    /// The folders of the packages, in the bundle.
    pub packages: Vec<String>,
    /// What was left out or assumed, in words.
    pub notes: Vec<String>,
}

/// Writes the bundle `out`, which must not exist yet. It appears whole or not at all.
///
/// Copies files, so it blocks.
pub fn import(request: &Request, out: &Path) -> Result<Imported, ImportError> {
    let source = Source::open(&request.from)?;
    let mut notes = Vec::new();
    let pipeline = Pipeline::read(&source, &mut notes)?;
    if pipeline.family == Family::IfSuperResolution {
        return Err(ImportError::unsupported(
            &source,
            "it only enlarges pictures: import it with the pipeline that it follows (--super-resolution)",
        ));
    }
    let name = request.name.clone().unwrap_or_else(|| source.name());
    let mut draft = Draft::new(out, &name, request.license.as_deref(), &pipeline.class)?;
    draft.notes.append(&mut notes);
    draft
        .notes
        .extend(pipeline.left_out.iter().map(|part| format!("{part} is left out: it has no place here")));
    draft.notes.extend(adapters::notes(&source));

    let text = text::import(&source, &pipeline, &mut draft)?;
    let neighbours = neighbours::import(&source, &pipeline, &text, &mut draft)?;
    let latents = autoencoder::import(&source, &pipeline, &mut draft)?;
    let surroundings = Surroundings { text, neighbours, latents };
    let mut side = denoiser::import(&source, &pipeline, request, &surroundings, &mut draft)?;
    for folder in &request.super_resolution {
        let source = Source::open(folder)?;
        let pipeline = Pipeline::read(&source, &mut draft.notes)?;
        if surroundings.latents.is_some() || pipeline.family != Family::IfSuperResolution {
            return Err(ImportError::unsupported(
                &source,
                "only IFSuperResolutionPipeline can be a level, and only of pipelines that work on pixels",
            ));
        }
        side = super_resolution::import(&source, &pipeline, &surroundings.text, side, &mut draft)?;
    }
    let notes = std::mem::take(&mut draft.notes);
    let packages = draft.finish()?;
    Ok(Imported { pipeline: pipeline.class, packages, notes })
}
