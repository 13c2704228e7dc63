//! `reverie capabilities`: what a mesh draws, takes and searches.

use std::fmt::Write as _;
use std::time::Duration;

use reverie_proto::diffusion::v1::{GuidanceStrategy, Sampler, Sampling};
use reverie_proto::generation::v1::{GetCapabilitiesResponse, Level, OtherSizes};
use reverie_service_kit::say;
use serde_json::{Value, json};

use crate::Failure;
use crate::client;
use crate::mesh::AskArguments;
use crate::names::name;

/// Shows what a mesh draws, takes and searches, with its limits and defaults.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Prints one JSON object instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    mesh: AskArguments,
}

/// How long the mesh may take to answer: nothing is drawn.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let asked = arguments.mesh.with_pipeline(async |address| {
        let told = client::capabilities(address, TIMEOUT).await;
        Ok(told.map_err(|status| status.message().to_owned())?)
    });
    let told = asked.await?;
    Ok(if arguments.json { say!("{:#}", json(&told)) } else { say!("{}", text(&told).trim_end()) }?)
}

fn sizes(told: &GetCapabilitiesResponse) -> Vec<u32> {
    std::iter::once(told.base_size).chain(told.levels.iter().map(|level| level.image_size)).collect()
}

/// Those that this program knows.
fn samplers(told: &[i32]) -> Vec<String> {
    told.iter().filter_map(|sampler| Sampler::try_from(*sampler).ok()).map(name::<Sampler>).collect()
}

fn strategies(told: &GetCapabilitiesResponse) -> Vec<String> {
    told.guidance_strategies().map(name::<GuidanceStrategy>).collect()
}

fn text(told: &GetCapabilitiesResponse) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what:>20}  {value}");
    };
    let yes = |does: bool| if does { "yes" } else { "no" }.to_owned();
    let of = |model: Option<&reverie_proto::diffusion::v1::ModelIdentity>| {
        model.map_or_else(String::new, |model| format!("{} {}", model.name, model.version))
    };
    line("base model", of(told.base_model.as_ref()));
    for level in &told.levels {
        let Level { model, low_resolution_size, image_size, .. } = level;
        let own = level.default_sampling.unwrap_or_default();
        let (sampler, steps) = (name(own.sampler()), own.steps.unwrap_or_default());
        let model = of(model.as_ref());
        line(
            "level",
            format!("{model} ({low_resolution_size} to {image_size} px; {sampler}, {steps} steps)"),
        );
    }
    let sides: Vec<_> = sizes(told).iter().map(u32::to_string).collect();
    line("sizes", format!("{} px", sides.join(", ")));
    if let Some(OtherSizes { multiple, max_side, max_pixels }) = told.other_sizes {
        let bounds = format!("multiples of {multiple} px up to {max_side} px and {max_pixels} pixels");
        line("other sizes", bounds);
    }
    let own = told.default_sampling.unwrap_or_default();
    line("samplers", samplers(&told.samplers).join(", "));
    let steps = own.steps.unwrap_or_default();
    line("default", format!("{}, {steps} steps (at most {})", name(own.sampler()), told.max_steps));
    if !told.guidance_strategies.is_empty() {
        line("guidance", strategies(told).join(", "));
    }
    if let Some(guidance) = told.default_guidance {
        let mut default = format!("text weight {}", guidance.text_weight.unwrap_or(1.0));
        if told.max_neighbours > 0 {
            let strategy = name(guidance.strategy());
            let _ = write!(
                default,
                ", neighbour weight {}, {strategy}",
                guidance.neighbour_weight.unwrap_or(1.0)
            );
        }
        line("default", default);
    }
    line("negative prompt", yes(told.takes_negative_prompt));
    line(
        "initial image",
        if told.needs_mask { "required, with a mask".to_owned() } else { yes(told.takes_initial) },
    );
    line(
        "step previews",
        match told.max_step_previews_per_second {
            0.0 => yes(false),
            rate => format!("up to {rate} per second"),
        },
    );
    match told.max_neighbours {
        0 => line("references", yes(false)),
        most => line("references", format!("up to {most} (default {})", told.default_neighbours)),
    }
    for found in &told.knowledge_bases {
        let default = if found.is_default { ", default" } else { "" };
        line(
            "knowledge base",
            format!("{} (epoch {}, {} entries{default})", found.name, found.epoch, found.size),
        );
    }
    if let Some(limits) = told.limits {
        let mib = |bytes: u32| f64::from(bytes) / f64::from(1 << 20);
        line("limits", format!("{} bytes of text", limits.max_text_bytes));
        line(
            "",
            format!(
                "{} MiB and {} px a side for an image",
                mib(limits.max_image_bytes),
                limits.max_image_side
            ),
        );
        line(
            "",
            format!(
                "{} MiB and {} s for a request",
                mib(limits.max_request_bytes),
                limits.max_request_seconds
            ),
        );
        line("", format!("{} images at a time, {} in a request", limits.max_in_flight, limits.max_images));
    }
    text
}

fn json(told: &GetCapabilitiesResponse) -> Value {
    let model = |model: Option<&reverie_proto::diffusion::v1::ModelIdentity>| {
        model.map(|model| json!({"name": model.name, "version": model.version, "digest": model.digest}))
    };
    let sampling = |sampling: Option<Sampling>| {
        let sampling = sampling.unwrap_or_default();
        let (sampler, thresholding) = (name(sampling.sampler()), name(sampling.thresholding()));
        json!({"sampler": sampler, "steps": sampling.steps, "thresholding": thresholding})
    };
    let levels: Vec<_> = told
        .levels
        .iter()
        .map(|level| {
            json!({
                "model": model(level.model.as_ref()), "low_resolution_size": level.low_resolution_size,
                "image_size": level.image_size, "samplers": samplers(&level.samplers), "max_steps": level.max_steps,
                "default_sampling": sampling(level.default_sampling),
                "default_guidance_weight": level.default_guidance_weight,
                "default_noise_level": level.default_noise_level,
            })
        })
        .collect();
    let knowledge_bases: Vec<_> = told
        .knowledge_bases
        .iter()
        .map(|found| {
            json!({
                "name": found.name, "description": found.description, "epoch": found.epoch, "size": found.size,
                "is_default": found.is_default,
            })
        })
        .collect();
    let guidance = told.default_guidance.unwrap_or_default();
    let limits = told.limits.unwrap_or_default();
    json!({
        "base_model": model(told.base_model.as_ref()),
        "levels": levels,
        "sizes": sizes(told),
        "other_sizes": told.other_sizes.map(|sizes| {
            json!({"multiple": sizes.multiple, "max_side": sizes.max_side, "max_pixels": sizes.max_pixels})
        }),
        "samplers": samplers(&told.samplers),
        "max_steps": told.max_steps,
        "default_sampling": sampling(told.default_sampling),
        "guidance_strategies": strategies(told),
        "default_guidance": {
            "strategy": name(guidance.strategy()), "text_weight": guidance.text_weight,
            "neighbour_weight": guidance.neighbour_weight, "interleave_ratio": guidance.interleave_ratio,
        },
        "max_step_previews_per_second": told.max_step_previews_per_second,
        "takes_negative_prompt": told.takes_negative_prompt,
        "takes_initial": told.takes_initial,
        "needs_mask": told.needs_mask,
        "max_neighbours": told.max_neighbours,
        "default_neighbours": told.default_neighbours,
        "knowledge_bases": knowledge_bases,
        "retrieval_strategies": told.retrieval_strategies().map(name).collect::<Vec<_>>(),
        "output_formats": told.output_formats().map(|format| {
            format.as_str_name().trim_start_matches("IMAGE_FORMAT_").to_ascii_lowercase()
        }).collect::<Vec<_>>(),
        "limits": {
            "max_text_bytes": limits.max_text_bytes, "max_image_bytes": limits.max_image_bytes,
            "max_image_side": limits.max_image_side, "max_request_bytes": limits.max_request_bytes,
            "max_request_seconds": limits.max_request_seconds, "max_in_flight": limits.max_in_flight,
            "max_images": limits.max_images,
        },
    })
}
