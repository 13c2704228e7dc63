//! `reverie models import`: a bundle from a pipeline that was exported to ONNX.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use reverie_import::{Request, SamplerKind};
use reverie_proto::limits::{GUIDANCE_WEIGHT, STEPS};
use reverie_service_kit::say;

use crate::Failure;

/// Stable Diffusion 1, 2 and XL, Stable Diffusion 3, FLUX, latent consistency models, DeepFloyd IF and retrieval-augmented
/// diffusion models, from the folders that `optimum-cli export onnx` writes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What wrote the folder.
    #[arg(long, value_enum)]
    from: Layout,
    /// The folder of the exported pipeline: the one with `model_index.json`.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Where the bundle goes; must not exist yet.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The folder of an exported super-resolution pipeline that upscales its images; may be repeated, from small to large.
    #[arg(long, value_name = "FOLDER")]
    super_resolution: Vec<PathBuf>,
    /// The bundle's name. Default: the folder's.
    #[arg(long)]
    name: Option<String>,
    /// Side of the image in pixels. Default: what the model was trained on.
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Default sampler of the base model. Default: the pipeline's scheduler.
    #[arg(long, value_parser = sampler_kinds())]
    sampler: Option<SamplerKind>,
    /// Default number of steps. Default: that of diffusers.
    #[arg(long, value_parser = steps)]
    steps: Option<u32>,
    /// Default guidance weight; 1 is no guidance. Default: that of diffusers.
    #[arg(long, value_name = "WEIGHT", value_parser = weight)]
    guidance_weight: Option<f32>,
    /// Licence of the models, as an SPDX expression.
    #[arg(long, value_name = "SPDX")]
    license: Option<String>,
}

/// Layouts of exported models.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Layout {
    /// A pipeline of Hugging Face diffusers.
    Diffusers,
}

/// Samplers as packages name them, with hyphens.
fn sampler_kinds() -> impl TypedValueParser<Value = SamplerKind> {
    let written = |kind: SamplerKind| kind.name().replace('_', "-");
    PossibleValuesParser::new(SamplerKind::ALL.map(written)).try_map(|text| {
        SamplerKind::named(&text.replace('-', "_")).ok_or_else(|| format!("{text} is no sampler"))
    })
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Layout::Diffusers = arguments.from;
    let out = arguments.out;
    let request = Request {
        from: arguments.folder,
        super_resolution: arguments.super_resolution,
        name: arguments.name,
        size: arguments.size,
        sampler: arguments.sampler,
        steps: arguments.steps,
        guidance_weight: arguments.guidance_weight,
        license: arguments.license,
    };
    let place = out.clone();
    let imported = tokio::task::spawn_blocking(move || reverie_import::import(&request, &place)).await??;
    say!("{} is now the bundle {}", imported.pipeline, out.display())?;
    for package in &imported.packages {
        say!("  {package}")?;
    }
    for note in &imported.notes {
        say!("note: {note}")?;
    }
    say!("try it out: reverie models check {}", out.display())?;
    Ok(())
}

fn steps(text: &str) -> Result<u32, String> {
    within(&STEPS, text.parse().map_err(|_| "write a whole number".to_owned())?)
}

fn weight(text: &str) -> Result<f32, String> {
    let weight: f32 = text.parse().map_err(|_| "write a number".to_owned())?;
    within(&GUIDANCE_WEIGHT, weight)
}

fn within<T: PartialOrd + std::fmt::Display>(range: &RangeInclusive<T>, value: T) -> Result<T, String> {
    let outside = || format!("must be {} to {} (got {value})", range.start(), range.end());
    if range.contains(&value) { Ok(value) } else { Err(outside()) }
}
