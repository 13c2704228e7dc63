//! A super-resolution level of a pixel cascade, after DeepFloyd IF.

use reverie_packages::package::{
    Conditions, LowResolutionCondition, NoiseLevelCondition, Role, TextCondition, WithoutText,
};

use crate::ImportError;
use crate::bundle::{Content, Draft};
use crate::denoiser::{Config, Tensors};
use crate::graph::{Part, batch_of};
use crate::keys::Keys;
use crate::pipeline::Pipeline;
use crate::scheduler::{self, Tokens};
use crate::source::Source;
use crate::text::Text;

/// `IFSuperResolutionPipeline` is called with noise level 250 of 1,000, 50 steps and weight 4 unless it is told otherwise.
const NOISE_TIMESTEP: f32 = 250.0;
const STEPS: u32 = 50;
const WEIGHT: f32 = 4.0;

/// Imports the level that follows a picture of `low_side` pixels. Gives the side of its own.
pub(crate) fn import(
    source: &Source,
    pipeline: &Pipeline,
    text: &Text,
    low_side: usize,
    draft: &mut Draft,
) -> Result<usize, ImportError> {
    if source.has("text_encoder") && Part::read(source, "text_encoder")?.digest()? != text.digest {
        return Err(ImportError::unsupported(
            source,
            "its text encoder is another one than that of the pipeline before it, and the cascade reads a prompt once",
        ));
    }
    let keys = Keys::read(source, "unet/config.json", "it says how large the picture is")?;
    let config = Config::read(&keys)?;
    let mut part = Part::read(source, "unet")?;
    let side = config.side(&keys)?.ok_or_else(|| keys.wrong("sample_size", "must be a number of pixels"))?;
    if side <= low_side {
        let must = format!("must be above {low_side}, which the level before it draws");
        return Err(keys.wrong("sample_size", must));
    }
    let tensors = Tensors::of(&part);
    part.agree(&keys, "in_channels", part.input_extent(tensors.x, 1))?;
    part.agree(&keys, "out_channels", part.output_extent(tensors.prediction, 1))?;
    if part.input_extent(tensors.x, 1).or(config.in_channels) != Some(6) {
        return Err(part.wrong("it must take 6 channels: x and the smaller picture"));
    }
    let given = part.output_extent(tensors.prediction, 1).or(config.out_channels).unwrap_or(3);
    part.input("x", tensors.x, Some(batch_of(&[6, side, side])))?;
    part.output("prediction", tensors.prediction, Some(batch_of(&[given, side, side])))?;
    part.input("timestep", "timestep", Some(batch_of(&[])))?;
    part.input("noise_level", "class_labels", Some(batch_of(&[])))?;
    part.input("text_tokens", "encoder_hidden_states", Some(batch_of(&[text.tokens, text.width])))?;
    part.check_inputs()?;

    let scheduler = scheduler::import(source, pipeline, "scheduler", None, &mut draft.notes)?;
    let noising = scheduler::import(source, pipeline, "image_noising_scheduler", None, &mut draft.notes)?;
    if !scheduler.has_noise_of(&noising) {
        return Err(ImportError::unsupported(
            source,
            "its image_noising_scheduler has another noise schedule than its scheduler",
        ));
    }
    if ![3, 6].contains(&given) || (given == 3 && scheduler.reads_variance()) {
        return Err(part.wrong(format!(
            "it gives {given} channels: it must give 3, or 6 with a variance, which its scheduler may read"
        )));
    }
    let mut diffusion = scheduler.facts(side, Tokens::Made(1), given == 6);
    diffusion.low_resolution_size = Some(low_side);
    let mut defaults = scheduler.defaults.clone();
    defaults.steps = STEPS;
    defaults.guidance_weight = Some(WEIGHT);
    defaults.noise_level = Some(NOISE_TIMESTEP / (diffusion.train_timesteps - 1).max(1) as f32);
    let conditions = Conditions {
        text: Some(TextCondition {
            dim: text.width,
            max_tokens: text.tokens,
            pooled_dim: None,
            encoder: text.digest.clone(),
            without: WithoutText::EmptyText,
        }),
        noise_level: Some(NoiseLevelCondition { timesteps: true }),
        low_resolution: Some(LowResolutionCondition { concatenated: true, align_corners: true }),
        ..Conditions::default()
    };
    let folder = format!("super-resolution-{side}");
    let content = Content {
        role: Role::SuperResolution,
        description: format!("IFSuperResolutionPipeline, {low_side} to {side} px."),
        of: "scheduler/scheduler_config.json".to_owned(),
        texts: Vec::new(),
        facts: Box::new(move |manifest| {
            manifest.diffusion = Some(diffusion);
            manifest.conditions = conditions;
            manifest.defaults = Some(defaults);
        }),
    };
    draft.package(source, &folder, &part, content)?;
    draft.packages.super_resolution.push(folder);
    Ok(side)
}
