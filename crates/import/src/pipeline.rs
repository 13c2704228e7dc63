//! Which pipeline a folder holds: `model_index.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::ImportError;
use crate::source::Source;

const INDEX: &str = "model_index.json";

/// Pipelines that are put together alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// One CLIP text encoder: Stable Diffusion 1 and 2, and the latent consistency models made of them.
    StableDiffusion,
    /// Two CLIP text encoders, and the sizes of the picture as a condition.
    StableDiffusionXl,
    /// Two CLIP text encoders and T5, flow matching.
    StableDiffusion3,
    /// CLIP for the pooled text and T5 for the tokens, flow matching on tokens of latents.
    Flux,
    /// T5, on pixels.
    If,
    /// The same, from a smaller picture.
    IfSuperResolution,
    /// CLIP vectors of text and of neighbours as tokens (Blattmann et al., 2022).
    RetrievalAugmented,
}

/// The classes that are known, without the prefix of the exporter.
const CLASSES: [(&str, Family); 17] = [
    ("StableDiffusionPipeline", Family::StableDiffusion),
    ("StableDiffusionImg2ImgPipeline", Family::StableDiffusion),
    ("StableDiffusionInpaintPipeline", Family::StableDiffusion),
    ("LatentConsistencyModelPipeline", Family::StableDiffusion),
    ("LatentConsistencyModelImg2ImgPipeline", Family::StableDiffusion),
    ("StableDiffusionXLPipeline", Family::StableDiffusionXl),
    ("StableDiffusionXLImg2ImgPipeline", Family::StableDiffusionXl),
    ("StableDiffusionXLInpaintPipeline", Family::StableDiffusionXl),
    ("StableDiffusion3Pipeline", Family::StableDiffusion3),
    ("StableDiffusion3Img2ImgPipeline", Family::StableDiffusion3),
    ("StableDiffusion3InpaintPipeline", Family::StableDiffusion3),
    ("FluxPipeline", Family::Flux),
    ("FluxImg2ImgPipeline", Family::Flux),
    ("FluxInpaintPipeline", Family::Flux),
    ("IFPipeline", Family::If),
    ("IFSuperResolutionPipeline", Family::IfSuperResolution),
    ("RDMPipeline", Family::RetrievalAugmented),
];

/// Parts that are no models of the picture: filters, watermarks, conditions that nothing here gives.
const LEFT_OUT: [&str; 5] =
    ["safety_checker", "watermarker", "image_encoder", "feature_extractor", "controlnet"];

/// The pipeline of a folder.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) class: String,
    pub(crate) family: Family,
    /// Parts that the folder has and that are not imported.
    pub(crate) left_out: Vec<&'static str>,
    /// SDXL: whether no negative prompt is zeros instead of the empty text.
    pub(crate) zeros_for_empty_prompt: bool,
    /// SD3: whether T5 reads the prompt too.
    pub(crate) has_third_text_encoder: bool,
}

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "_class_name")]
    class: String,
    #[serde(default = "yes")]
    force_zeros_for_empty_prompt: bool,
    #[serde(default)]
    requires_aesthetics_score: bool,
    #[serde(flatten)]
    parts: BTreeMap<String, Value>,
}

fn yes() -> bool {
    true
}

impl Pipeline {
    pub(crate) fn read(source: &Source) -> Result<Self, ImportError> {
        let why = "exported pipelines have it: is this the folder that `optimum-cli export onnx` wrote?";
        let index: Index = source.json(INDEX, why)?;
        if index.class.starts_with("Onnx") {
            return Err(ImportError::unsupported(
                source,
                "folders of the old Onnx pipelines do not say enough of their parts; export it anew (optimum-cli export onnx)",
            ));
        }
        // The exporter puts its own name first.
        let class = index.class.trim_start_matches("ORT");
        let known = CLASSES.iter().find(|(known, _)| *known == class);
        let Some((_, family)) = known else {
            let known: Vec<&str> = CLASSES.iter().map(|(known, _)| *known).collect();
            let why = format!("the pipeline {} is not known here, only {}", index.class, known.join(", "));
            return Err(ImportError::unsupported(source, why));
        };
        if index.requires_aesthetics_score {
            return Err(ImportError::unsupported(
                source,
                "it is a refiner, which is told an aesthetic score, and draws the last steps of another model only",
            ));
        }
        let is_there = |part: &&'static str| {
            // [library, class], or [null, null] for none.
            let named = index.parts.get(*part).and_then(|part| part.get(1));
            named.is_some_and(|class| !class.is_null())
        };
        let is_part = |part: &&'static str| {
            *family == Family::RetrievalAugmented && ["image_encoder", "feature_extractor"].contains(part)
        };
        let left_out = LEFT_OUT.into_iter().filter(|part| is_there(part) && !is_part(part));
        Ok(Self {
            class: class.to_owned(),
            family: *family,
            left_out: left_out.collect(),
            has_third_text_encoder: is_there(&"text_encoder_3") || source.has("text_encoder_3"),
            zeros_for_empty_prompt: index.force_zeros_for_empty_prompt,
        })
    }

    /// Whether it works on latents.
    pub(crate) fn works_on_latents(&self) -> bool {
        !matches!(self.family, Family::If | Family::IfSuperResolution)
    }

    /// The folder of its diffusion model.
    pub(crate) fn denoiser(&self) -> &'static str {
        match self.family {
            Family::StableDiffusion3 | Family::Flux => "transformer",
            _ => "unet",
        }
    }
}
