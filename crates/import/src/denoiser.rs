//! The diffusion model of a pipeline.

use reverie_diffusion::{PredictionType, SamplerKind};
use reverie_packages::package::{
    Conditions, Defaults, DiffusionFacts, Extent, GuidanceCondition, LatentFacts, NeighbourConditions,
    OtherSizes, Present, Role, StrategyKind, TextCondition, WithoutText,
};
use serde_json::Value;

use crate::autoencoder::Latents;
use crate::bundle::{Content, Draft};
use crate::graph::{Part, batch_of};
use crate::keys::{Held, Keys};
use crate::pipeline::{Family, Pipeline};
use crate::scheduler::{self, Tokens};
use crate::source::Source;
use crate::text::Text;
use crate::{ImportError, Request};

/// The side of a token of FLUX, in latent pixels.
const PATCH: usize = 2;
/// The side of a latent of FLUX, whose configuration has none: `FluxPipeline.default_sample_size`.
const FLUX_SAMPLE_SIZE: usize = 128;
/// The least side of a latent of Stable Diffusion, where an old configuration says less.
const OLD_SAMPLE_SIZE: usize = 64;
/// The largest side of a picture.
const MAX_SIDE: usize = 16_384;

/// What of a diffusion model's configuration counts beside its graph.
pub(crate) struct Config {
    sample_size: Option<Sides>,
    /// Whether diffusers 0.9 or later wrote it.
    is_of_0_9: bool,
    pub(crate) in_channels: Option<usize>,
    pub(crate) out_channels: Option<usize>,
    /// Of each level of a `UNet`.
    block_out_channels: Option<Vec<usize>>,
    /// Of a transformer that makes tokens itself.
    patch_size: Option<usize>,
    /// The most of these tokens along a side.
    pos_embed_max_size: Option<usize>,
}

/// A side, or height and width.
#[derive(Clone, Copy)]
enum Sides {
    One(usize),
    Both([usize; 2]),
}

impl Held for Sides {
    const WHAT: &'static str = "a whole number, or two";

    fn of(value: &Value) -> Option<Self> {
        match usize::of(value) {
            Some(side) => Some(Self::One(side)),
            None => Vec::of(value)?.try_into().ok().map(Self::Both),
        }
    }
}

/// Whether a version of diffusers is 0.9 or later. What is no version is taken for a late one.
fn is_of_0_9(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(0)), Some(Ok(minor))) => minor >= 9,
        _ => true,
    }
}

impl Config {
    pub(crate) fn read(keys: &Keys) -> Result<Self, ImportError> {
        Ok(Self {
            sample_size: keys.get("sample_size")?,
            is_of_0_9: keys.get::<String>("_diffusers_version")?.is_none_or(|version| is_of_0_9(&version)),
            in_channels: keys.get("in_channels")?,
            out_channels: keys.get("out_channels")?,
            block_out_channels: keys.get("block_out_channels")?,
            patch_size: keys.get("patch_size")?,
            pos_embed_max_size: keys.get("pos_embed_max_size")?,
        })
    }

    /// Side of x, if it says.
    pub(crate) fn side(&self, keys: &Keys) -> Result<Option<usize>, ImportError> {
        match self.sample_size {
            None => Ok(None),
            Some(Sides::One(side)) => Ok(Some(side)),
            Some(Sides::Both([height, width])) if height == width => Ok(Some(height)),
            Some(Sides::Both(_)) => Err(keys.wrong("sample_size", "must be square: or say a side (--size)")),
        }
    }

    /// The same as Stable Diffusion's pipelines mend it: before diffusers 0.9 all configurations said 32, and meant 64.
    fn side_of(&self, keys: &Keys, pipeline: &Pipeline) -> Result<Option<usize>, ImportError> {
        let is_mended =
            pipeline.class.starts_with("StableDiffusion") && pipeline.family == Family::StableDiffusion;
        let side = self.side(keys)?;
        Ok(side.map(|side| if is_mended && !self.is_of_0_9 { side.max(OLD_SAMPLE_SIZE) } else { side }))
    }

    /// What the sides of x are multiples of: a `UNet` halves them at every level but the last.
    fn multiple(&self, family: Family) -> Option<usize> {
        match (&self.block_out_channels, self.patch_size) {
            _ if family == Family::Flux => Some(PATCH),
            (Some(levels), _) => 1_usize.checked_shl(levels.len().checked_sub(1)? as u32),
            (None, patch) => patch.filter(|patch| *patch > 0),
        }
    }

    /// Sizes of pictures that can be drawn besides the one of `side` pixels, where the axes are open.
    fn other_sizes(&self, family: Family, side: usize, downscale: usize) -> Option<OtherSizes> {
        let multiple = self.multiple(family)?.checked_mul(downscale)?;
        let placed = self.pos_embed_max_size.map(|tokens| tokens.saturating_mul(multiple));
        let max_side = (2 * side).min(placed.unwrap_or(MAX_SIDE)).min(MAX_SIDE);
        let number = |value: usize| u32::try_from(value).ok();
        // Half as much again both ways.
        let max_pixels = number(side * side * 9 / 4)?;
        Some(OtherSizes { multiple: number(multiple)?, max_side: number(max_side)?, max_pixels })
    }
}

/// What the base model works with.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) text: Text,
    pub(crate) neighbours: Option<NeighbourConditions>,
    pub(crate) latents: Option<Latents>,
}

/// Imports the base model. Gives the side of its picture.
pub(crate) fn import(
    source: &Source,
    pipeline: &Pipeline,
    request: &Request,
    with: &Surroundings,
    draft: &mut Draft,
) -> Result<usize, ImportError> {
    let folder = pipeline.denoiser();
    let keys = Keys::read(source, &format!("{folder}/config.json"), "it says how large the picture is")?;
    let config = Config::read(&keys)?;
    let mut part = Part::read(source, folder)?;
    let form = Form::of(&mut part, pipeline, request.size, &keys, &config, with.latents.as_ref())?;
    let conditions = conditions(&mut part, pipeline, &keys, &form, with)?;
    let notes = &mut draft.notes;
    let (diffusion, defaults) = sampling(source, &part, pipeline, request, &form, with, &conditions, notes)?;
    let content = Content {
        role: Role::Denoiser,
        description: format!("{} of {} px.", pipeline.class, form.side),
        of: "scheduler/scheduler_config.json".to_owned(),
        texts: Vec::new(),
        facts: Box::new(move |manifest| {
            manifest.diffusion = Some(diffusion);
            manifest.conditions = conditions;
            manifest.defaults = Some(defaults);
        }),
    };
    draft.package(source, "denoiser", &part, content)?;
    "denoiser".clone_into(&mut draft.packages.denoiser);
    Ok(form.side)
}

/// The shapes of picture, x and prediction.
#[derive(Debug)]
struct Form {
    /// Of the picture, pixels.
    side: usize,
    /// Of x.
    channels: usize,
    downscale: usize,
    patch: Option<usize>,
    tokens: Tokens,
    other_sizes: Option<OtherSizes>,
    paints_into_picture: bool,
    has_variance: bool,
}

impl Form {
    /// Names x and the prediction.
    fn of(
        part: &mut Part,
        pipeline: &Pipeline,
        asked: Option<usize>,
        keys: &Keys,
        config: &Config,
        latents: Option<&Latents>,
    ) -> Result<Self, ImportError> {
        let is_flux = pipeline.family == Family::Flux;
        let downscale = latents.map_or(1, |latents| latents.scale.downscale);
        let own = if asked.is_some() { None } else { config.side_of(keys, pipeline)? };
        let own = own.or(is_flux.then_some(FLUX_SAMPLE_SIZE));
        let side = asked.or(own.map(|own| own.saturating_mul(downscale)));
        let side =
            side.ok_or_else(|| keys.wrong("sample_size", "must be a whole number: or say a side (--size)"))?;
        let patch = is_flux.then_some(PATCH);
        let multiple = downscale * patch.unwrap_or(1);
        if !(1..=MAX_SIDE).contains(&side) || !side.is_multiple_of(multiple) {
            let must = format!("1 to {MAX_SIDE} pixels a side, a multiple of {multiple}");
            return Err(match own {
                Some(_) => keys.wrong("sample_size", format!("must give a picture of {must}, not {side}")),
                None => part.wrong(format!("it draws pictures of {must}; not {side} (--size)")),
            });
        }
        let x_side = side / downscale;
        let channels = latents.map_or(3, |latents| latents.scale.channels);
        let takes_tokens = patch.is_some();
        let tokens = if takes_tokens { Tokens::Given } else { Tokens::Made(config.patch_size.unwrap_or(1)) };
        let tensors = Tensors::of(part);
        let axis = if takes_tokens { 2 } else { 1 };
        // Channels of x as the graph has them.
        let unit = channels * patch.map_or(1, |patch| patch * patch);
        part.agree(keys, "in_channels", part.input_extent(tensors.x, axis))?;
        part.agree(keys, "out_channels", part.output_extent(tensors.prediction, axis))?;
        // Where the exporter left the axis open, the configuration says.
        let taken = part.input_extent(tensors.x, axis).or(config.in_channels).unwrap_or(unit);
        let given = part.output_extent(tensors.prediction, axis).or(config.out_channels).unwrap_or(unit);
        let painting = 2 * channels + 1;
        let paints_into_picture = !takes_tokens && latents.is_some() && taken == painting;
        if taken != unit && !paints_into_picture {
            return Err(part.wrong(format!(
                "it takes {taken} channels, a model of {} takes {unit}, or {painting} to paint into pictures",
                pipeline.class,
            )));
        }
        let has_variance = given == 2 * unit && !takes_tokens;
        if given != unit && !has_variance {
            return Err(part.wrong(format!("it gives {given} channels, not {unit} nor twice as many")));
        }
        let sides: &[usize] = if takes_tokens { &[1] } else { &[2, 3] };
        let is_open = sides.iter().all(|axis| part.input_extent(tensors.x, *axis).is_none());
        let other_sizes = is_open.then(|| config.other_sizes(pipeline.family, side, downscale)).flatten();
        let form =
            Self { side, channels, downscale, patch, tokens, other_sizes, paints_into_picture, has_variance };
        let shape = |channels| match form.extent_of_tokens() {
            Some(tokens) => [batch_of(&[]), vec![tokens, Extent::Fixed(channels)]].concat(),
            None => {
                [batch_of(&[channels]), vec![form.extent("height", x_side), form.extent("width", x_side)]]
                    .concat()
            }
        };
        part.input("x", tensors.x, Some(shape(taken)))?;
        part.output("prediction", tensors.prediction, Some(shape(given)))?;
        Ok(form)
    }
}

impl Form {
    /// Always the same, or chosen by each run.
    fn extent(&self, name: &str, own: usize) -> Extent {
        match self.other_sizes {
            Some(_) => Extent::Dynamic(name.to_owned()),
            None => Extent::Fixed(own),
        }
    }

    /// The number of tokens, where x is given so.
    fn extent_of_tokens(&self) -> Option<Extent> {
        let patch = self.patch?;
        Some(self.extent("image_tokens", (self.side / self.downscale / patch).pow(2)))
    }
}

/// Names what the model is conditioned on.
fn conditions(
    part: &mut Part,
    pipeline: &Pipeline,
    keys: &Keys,
    form: &Form,
    with: &Surroundings,
) -> Result<Conditions, ImportError> {
    let Surroundings { text, neighbours, .. } = with;
    part.input("timestep", "timestep", Some(batch_of(&[])))?;
    let text_tokens = match neighbours {
        Some(_) => {
            let open = vec![Extent::Dynamic("tokens".to_owned()), Extent::Fixed(text.width)];
            [batch_of(&[]), open].concat()
        }
        None => batch_of(&[text.tokens, text.width]),
    };
    part.input("text_tokens", "encoder_hidden_states", Some(text_tokens))?;
    let places = |tokens: Extent| vec![tokens, Extent::Fixed(3)];
    for (ours, theirs, shape) in [
        ("pooled_text", "text_embeds", batch_of(&[text.pooled])),
        ("pooled_text", "pooled_projections", batch_of(&[text.pooled])),
        ("time_ids", "time_ids", batch_of(&[6])),
        ("text_ids", "txt_ids", places(Extent::Fixed(text.tokens))),
        ("image_ids", "img_ids", places(form.extent_of_tokens().unwrap_or(Extent::Fixed(0)))),
        ("guidance", "guidance", batch_of(&[])),
    ] {
        if part.takes(theirs) {
            part.input(ours, theirs, Some(shape))?;
        }
    }
    part.agree(keys, "joint_attention_dim", Some(text.width))?;
    part.agree(keys, "pooled_projection_dim", Some(text.pooled))?;
    part.agree(keys, "time_cond_proj_dim", part.input_extent("timestep_cond", 1))?;
    // FLUX.1 schnell has none of what dev is told.
    if pipeline.family == Family::Flux && keys.is("guidance_embeds")? != part.takes("guidance") {
        let must =
            if part.takes("guidance") { "true: the graph takes" } else { "false: the graph does not take" };
        return Err(keys.wrong("guidance_embeds", format!("must be {must} guidance")));
    }
    if keys.has("time_cond_proj_dim") && !part.takes("timestep_cond") {
        return Err(keys.wrong("time_cond_proj_dim", "must be null: the graph does not take timestep_cond"));
    }
    let mut guidance = part.takes("guidance").then_some(GuidanceCondition::Weight);
    if part.takes("timestep_cond") {
        let width = part.input_extent("timestep_cond", 1);
        let width = width.ok_or_else(|| part.wrong("timestep_cond has no fixed width"))?;
        part.input("guidance", "timestep_cond", Some(batch_of(&[width])))?;
        guidance = Some(GuidanceCondition::Embedding(width));
    }
    part.check_inputs()?;
    let without = match pipeline.family {
        // Never seen: one row a step.
        _ if guidance.is_some() => WithoutText::Zeros,
        Family::StableDiffusionXl if pipeline.zeros_for_empty_prompt => WithoutText::Zeros,
        Family::RetrievalAugmented => WithoutText::Zeros,
        _ => WithoutText::EmptyText,
    };
    Ok(Conditions {
        text: Some(TextCondition {
            dim: text.width,
            max_tokens: text.tokens,
            pooled_dim: part.graph.inputs.contains_key("pooled_text").then_some(text.pooled),
            encoder: text.digest.clone(),
            without,
        }),
        neighbours: neighbours.clone(),
        guidance,
        masked_picture: form.paints_into_picture.then_some(Present {}),
        ..Conditions::default()
    })
}

/// What the model was trained on, and how it is sampled.
#[expect(clippy::too_many_arguments, reason = "it puts together what all the others have read")]
fn sampling(
    source: &Source,
    part: &Part,
    pipeline: &Pipeline,
    request: &Request,
    form: &Form,
    with: &Surroundings,
    conditions: &Conditions,
    notes: &mut Vec<String>,
) -> Result<(DiffusionFacts, Defaults), ImportError> {
    let family = pipeline.family;
    let scheduler = scheduler::import(source, pipeline, "scheduler", request.sampler, notes)?;
    if scheduler.reads_variance() && !form.has_variance && scheduler.defaults.sampler == SamplerKind::Ddpm {
        return Err(part.wrong("the scheduler reads a variance that the graph does not give"));
    }
    let mut diffusion = scheduler.facts(form.side, form.tokens, form.has_variance);
    let is_flow = matches!(family, Family::StableDiffusion3 | Family::Flux);
    if is_flow != (diffusion.prediction_type == PredictionType::FlowPrediction) {
        return Err(part.wrong("the scheduler is not of the kind that the pipeline was trained with"));
    }
    if family == Family::Flux {
        // The model is told sigma itself.
        diffusion.timestep_scale = 1.0 / diffusion.train_timesteps as f32;
    }
    diffusion.other_sizes = form.other_sizes;
    diffusion.latent = with.latents.as_ref().map(|latents| LatentFacts {
        channels: form.channels,
        downscale: form.downscale,
        patch: form.patch,
        decoder: latents.decoder.clone(),
    });
    let (steps, weight) = match family {
        // A distilled FLUX that is not told of guidance is not guided.
        Family::Flux if conditions.guidance.is_none() => (usual(family, &pipeline.class).0, 1.0),
        _ => usual(family, &pipeline.class),
    };
    let weight = Some(request.guidance_weight.unwrap_or(weight));
    let mut defaults = scheduler.defaults.clone();
    let most = diffusion.distilled_steps.unwrap_or(diffusion.train_timesteps);
    defaults.steps = request.steps.unwrap_or(steps).min(most);
    defaults.text_weight = weight;
    defaults.spreads_steps = pipeline.class.starts_with("LatentConsistency");
    if with.neighbours.is_some() {
        defaults.guidance_strategy = Some(StrategyKind::Joint);
        defaults.neighbour_weight = weight;
    }
    Ok((diffusion, defaults))
}

/// What a pipeline does when it is not told: steps and guidance weight (diffusers 0.39).
fn usual(family: Family, class: &str) -> (u32, f32) {
    let from_picture = class.contains("Img2Img") || class.contains("Inpaint");
    match family {
        Family::StableDiffusion if class.starts_with("LatentConsistency") => (4, 8.5),
        Family::StableDiffusion => (50, 7.5),
        Family::StableDiffusionXl if class.contains("Inpaint") => (50, 7.5),
        Family::StableDiffusionXl | Family::RetrievalAugmented => (50, 5.0),
        Family::StableDiffusion3 if from_picture => (50, 7.0),
        Family::StableDiffusion3 => (28, 7.0),
        Family::Flux if from_picture => (28, 7.0),
        Family::Flux => (28, 3.5),
        Family::If | Family::IfSuperResolution => (100, 7.0),
    }
}

/// What exporters call x and the prediction.
pub(crate) struct Tensors {
    pub(crate) x: &'static str,
    pub(crate) prediction: &'static str,
}

impl Tensors {
    pub(crate) fn of(part: &Part) -> Self {
        Self {
            x: if part.takes("hidden_states") { "hidden_states" } else { "sample" },
            prediction: if part.gives("out_hidden_states") { "out_hidden_states" } else { "out_sample" },
        }
    }
}
