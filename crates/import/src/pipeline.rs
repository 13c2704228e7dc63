//! Which pipeline a folder holds: `model_index.json`.

use std::collections::BTreeMap;

use crate::keys::Keys;
use crate::source::Source;
use crate::{ImportError, tokenizer};

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

/// The pipeline of a folder.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) class: String,
    pub(crate) family: Family,
    /// Parts that the folder has and that are not imported.
    pub(crate) left_out: Vec<String>,
    /// SDXL: whether no negative prompt is zeros instead of the empty text.
    pub(crate) zeros_for_empty_prompt: bool,
    /// SD3: whether T5 reads the prompt too.
    pub(crate) has_third_text_encoder: bool,
    /// Parts and their classes.
    parts: BTreeMap<String, String>,
}

/// Keys of the index that are no parts and change no picture: checks and marks that are not made here, and where it came from.
const INERT: [&str; 6] = [
    "_class_name",
    "_diffusers_version",
    "_name_or_path",
    "requires_safety_checker",
    "add_watermarker",
    "is_distilled",
];

/// Parts, and the classes that their pipelines work with. Exporters may put a class of their own for a graph.
fn classes_of(part: &str, family: Family) -> Option<&'static [&'static str]> {
    let is_projected = match family {
        Family::StableDiffusion3 | Family::RetrievalAugmented => true,
        Family::StableDiffusionXl => part == "text_encoder_2",
        _ => false,
    };
    Some(match (part, family) {
        ("text_encoder", Family::If | Family::IfSuperResolution)
        | ("text_encoder_2", Family::Flux)
        | ("text_encoder_3", Family::StableDiffusion3) => &["T5EncoderModel"],
        ("text_encoder" | "text_encoder_2", _) if is_projected => &["CLIPTextModelWithProjection"],
        ("text_encoder" | "text_encoder_2", _) => &["CLIPTextModel"],
        ("tokenizer" | "tokenizer_2" | "tokenizer_3", _) => &tokenizer::CLASSES,
        ("unet", _) => &["UNet2DConditionModel"],
        ("transformer", Family::StableDiffusion3) => &["SD3Transformer2DModel"],
        ("transformer", _) => &["FluxTransformer2DModel"],
        ("vae" | "vae_encoder" | "vae_decoder", _) => &["AutoencoderKL"],
        ("image_encoder", Family::RetrievalAugmented) => &["CLIPVisionModelWithProjection"],
        ("feature_extractor", Family::RetrievalAugmented) => {
            &["CLIPImageProcessor", "CLIPFeatureExtractor", "CLIPImageProcessorFast"]
        }
        // Which there are, the scheduler's own module says.
        ("scheduler" | "image_noising_scheduler", _) => &[],
        _ => return None,
    })
}

/// Classes that say only that a part is a graph.
fn is_of_an_exporter(class: &str) -> bool {
    class.starts_with("ORT") || class == "OnnxRuntimeModel"
}

impl Pipeline {
    pub(crate) fn read(source: &Source, notes: &mut Vec<String>) -> Result<Self, ImportError> {
        let why = "exported pipelines have it: is this the folder that `optimum-cli export onnx` wrote?";
        let index = Keys::read(source, INDEX, why)?;
        let named: String = index.need(&["_class_name"])?;
        let (class, family) = known(&named).map_err(|why| index.wrong("_class_name", why))?;
        if index.is("requires_aesthetics_score")? {
            return Err(ImportError::unsupported(
                source,
                "it is a refiner (requires_aesthetics_score), which is told an aesthetic score, and draws the last steps of \
                 another model only",
            ));
        }
        let (mut parts, mut known) = (BTreeMap::new(), INERT.to_vec());
        known.extend(["force_zeros_for_empty_prompt", "requires_aesthetics_score"]);
        for (part, value) in index.map().iter().filter(|(part, _)| !known.contains(&part.as_str())) {
            // [library, class], or [null, null] for none.
            let Some(class) = value.as_array().filter(|pair| pair.len() == 2).and_then(|pair| pair.last())
            else {
                continue;
            };
            let Some(class) = class.as_str() else {
                if !class.is_null() {
                    return Err(index.wrong(part, "must be [library, class]"));
                }
                continue;
            };
            if let Some(classes) = classes_of(part, family)
                && !(classes.is_empty() || classes.contains(&class) || is_of_an_exporter(class))
            {
                let why =
                    format!("must be of the class {}, which {} works with", classes.join(" or "), named);
                return Err(index.wrong(part, why));
            }
            parts.insert(part.clone(), class.to_owned());
        }
        known.extend(index.map().iter().filter(|(_, value)| value.is_array()).map(|(part, _)| part.as_str()));
        index.note_others(&known, notes);
        let is_known = |part: &str| classes_of(part, family).is_some();
        let left_out = parts.keys().filter(|part| !is_known(part)).cloned().collect();
        Ok(Self {
            class,
            family,
            left_out,
            has_third_text_encoder: parts.contains_key("text_encoder_3") || source.has("text_encoder_3"),
            zeros_for_empty_prompt: index.get("force_zeros_for_empty_prompt")?.unwrap_or(true),
            parts,
        })
    }

    /// The class of a part, as the index names it; none if it does not say, or has only an exporter's name.
    pub(crate) fn class_of(&self, part: &str) -> Option<&str> {
        self.parts.get(part).map(String::as_str).filter(|class| !is_of_an_exporter(class))
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

/// The class without the prefix of the exporter, and its family; else what to do.
fn known(named: &str) -> Result<(String, Family), String> {
    if named.starts_with("Onnx") {
        return Err("is a pipeline of the old exporter, whose folders do not say enough of their parts: export the model anew \
                    (optimum-cli export onnx)"
            .to_owned());
    }
    // The exporter puts its own name first.
    let class = named.strip_prefix("ORT").unwrap_or(named);
    if let Some((known, family)) = CLASSES.iter().find(|(known, _)| *known == class) {
        return Ok(((*known).to_owned(), *family));
    }
    let known: Vec<&str> = CLASSES.iter().map(|(known, _)| *known).collect();
    let known_are = format!("known are {}", known.join(", "));
    // They choose a pipeline when they load a model, and say nothing of it.
    if ["PipelineForText2Image", "PipelineForImage2Image", "PipelineForInpainting", "DiffusionPipeline"]
        .iter()
        .any(|general| class.trim_start_matches("Auto") == *general)
    {
        return Err(format!(
            "names no pipeline, but a class that chooses one: write the pipeline's own class (StableDiffusionPipeline, say); \
             {known_are}"
        ));
    }
    Err(match nearest(class) {
        Some(nearest) => format!(
            "is not known here; the nearest that is known is {nearest}: if the model was trained for that one, write its name. \
             In all, {known_are}"
        ),
        None => format!("is not known here; {known_are}"),
    })
}

/// The class of the same model that is nearest in what it does: the model's name is what a class begins with.
fn nearest(class: &str) -> Option<&'static str> {
    const TASKS: [&str; 3] = ["Img2Img", "Inpaint", "SuperResolution"];
    let task = |class: &str| TASKS.into_iter().find(|task| class.contains(task));
    let model = |known: &'static str| {
        let name = known.strip_suffix("Pipeline").unwrap_or(known);
        TASKS.iter().fold(name, |name, task| name.strip_suffix(task).unwrap_or(name))
    };
    let alike = CLASSES.iter().map(|(known, _)| *known).filter(|known| class.starts_with(model(known)));
    alike.max_by_key(|known| (model(known).len(), task(known) == task(class), task(known).is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_known_or_the_nearest_is_named() {
        for (named, class) in [
            ("ORTStableDiffusionPipeline", "StableDiffusionPipeline"),
            ("StableDiffusionXLPipeline", "StableDiffusionXLPipeline"),
            ("ORTFluxPipeline", "FluxPipeline"),
        ] {
            assert_eq!(known(named).unwrap().0, class);
        }
        for (named, told) in [
            ("StableDiffusionXLControlNetPipeline", "nearest that is known is StableDiffusionXLPipeline"),
            (
                "StableDiffusionXLControlNetInpaintPipeline",
                "nearest that is known is StableDiffusionXLInpaintPipeline",
            ),
            ("StableDiffusionUpscalePipeline", "nearest that is known is StableDiffusionPipeline"),
            ("StableDiffusion3ControlNetPipeline", "nearest that is known is StableDiffusion3Pipeline"),
            ("FluxFillPipeline", "nearest that is known is FluxPipeline"),
            ("IFInpaintingPipeline", "nearest that is known is IFPipeline"),
            ("LatentConsistencyModelInpaintPipeline", "nearest that is known is LatentConsistencyModel"),
            ("ORTPipelineForText2Image", "write the pipeline's own class"),
            ("AutoPipelineForInpainting", "write the pipeline's own class"),
            ("OnnxStableDiffusionPipeline", "export the model anew"),
            ("KandinskyPipeline", "is not known here; known are StableDiffusionPipeline"),
        ] {
            let why = known(named).unwrap_err();
            assert!(why.contains(told), "{named}: {why}");
        }
    }
}
