//! The model's facts, and requests checked against them.

use reverie_denoising::serving;
use reverie_diffusion::guidance::{Condition, Plan};
use reverie_diffusion::{InitialSample, NoiseSchedule, NoiseSource, Sampler, SamplerError, SamplerSettings};
use reverie_inference::package::{Defaults, DiffusionFacts, Extent, NeighbourConditions, TextCondition};
use reverie_inference::{ModelError, Package};
use reverie_proto::denoiser::v1::{self as wire, DenoiseRequest};
use reverie_proto::initial::{Initial, InitialError};
use reverie_proto::pictures::{self, Rgb};
use reverie_proto::tensor::v1::TextTokens;
use reverie_proto::tensors::EncodedText;
use reverie_service_kit::{Refusal, Violations};
use tonic::Status;

use crate::guidance::Settled;

/// The base model's place in the cascade, for the noise streams.
const STAGE: u16 = 0;

/// What the base model takes.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Side of the picture, pixels.
    pub(crate) side: usize,
    pub(crate) diffusion: DiffusionFacts,
    pub(crate) defaults: Defaults,
    pub(crate) text: TextCondition,
    pub(crate) neighbours: NeighbourConditions,
    /// The neighbour encoder's outputs that the model takes.
    pub(crate) features: Vec<Feature>,
    pub(crate) schedule: NoiseSchedule,
    pub(crate) identity: wire::ModelIdentity,
}

/// One of a neighbour's features.
#[derive(Debug, Clone)]
pub(crate) struct Feature {
    pub(crate) name: String,
    /// Its extents for one neighbour.
    pub(crate) shape: Vec<usize>,
}

impl Facts {
    pub(crate) fn of(package: &Package) -> Result<Self, ModelError> {
        let wrong = |why: &str| ModelError::Manifest { file: package.location.clone(), why: why.to_owned() };
        let conditions = &package.manifest.conditions;
        let (diffusion, defaults) = serving::facts(package)?;
        let text = conditions.text.clone().ok_or_else(|| wrong("[conditions.text] is missing"))?;
        let neighbours =
            conditions.neighbours.clone().ok_or_else(|| wrong("[conditions.neighbours] is missing"))?;
        let features = neighbours
            .features
            .iter()
            .map(|name| {
                let facts =
                    package.manifest.graph.inputs.get(name).ok_or_else(|| wrong("a feature is no input"))?;
                // [batch, neighbours, …]
                let shape = facts.shape.iter().skip(2).map(|extent| match extent {
                    Extent::Fixed(extent) => Ok(*extent),
                    Extent::Dynamic(_) => Err(wrong("a feature has an open extent")),
                });
                Ok(Feature { name: name.clone(), shape: shape.collect::<Result<_, _>>()? })
            })
            .collect::<Result<_, ModelError>>()?;
        let schedule = diffusion.schedule().map_err(|error| wrong(&error.to_string()))?;
        let side = diffusion.image_size;
        let identity = serving::identity(package);
        Ok(Self { side, diffusion, defaults, text, neighbours, features, schedule, identity })
    }
}

/// A request that can be drawn.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) text: EncodedText,
    pub(crate) negative_text: Option<EncodedText>,
    pub(crate) neighbours: Vec<(Rgb, EncodedText)>,
    pub(crate) sampler: Sampler,
    pub(crate) plan: Plan,
    pub(crate) guidance: Settled,
    pub(crate) noise: NoiseSource,
    pub(crate) initial: Option<InitialSample>,
}

/// Checks a request. Decodes pictures, so it blocks.
pub(crate) fn job(request: &DenoiseRequest, facts: &Facts) -> Result<Job, Status> {
    let mut violations = Violations::new();
    let negative_text = request
        .negative_text
        .as_ref()
        .and_then(|negative| text(&mut violations, "negative_text", Some(negative), facts));
    let text = text(&mut violations, "text", request.text.as_ref(), facts);
    let most = facts.neighbours.max;
    violations.require(
        request.neighbours.len() <= most,
        "neighbours",
        format!("must be at most {most}, not {}", request.neighbours.len()),
    );
    let mut neighbours = Vec::new();
    for (index, neighbour) in request.neighbours.iter().enumerate().take(most) {
        let image = neighbour.image.as_ref().ok_or(pictures::PictureError::Empty).and_then(pictures::decode);
        let image = violations.take(format!("neighbours[{index}].image"), image);
        let caption = self::text(
            &mut violations,
            &format!("neighbours[{index}].caption"),
            neighbour.caption.as_ref(),
            facts,
        );
        neighbours.extend(image.zip(caption));
    }
    let guidance = Settled::of(&mut violations, request.guidance.as_ref(), &facts.defaults);
    let field = |error: &InitialError| format!("initial.{}", error.field());
    let initial = request
        .initial
        .as_ref()
        .and_then(|message| violations.take_all(Initial::from_message(message), field));
    let settings =
        serving::sampling(&mut violations, request.sampling.as_ref(), &facts.diffusion, &facts.defaults);
    let strength = initial.as_ref().map_or(1.0, |initial| initial.strength);
    let sampler = Sampler::new(&facts.schedule, &SamplerSettings { strength, ..settings });
    let wrong = match sampler {
        Err(SamplerError::NoSteps { .. }) => "initial.strength",
        _ => "sampling",
    };
    let sampler = violations.take(wrong, sampler);
    let noise = NoiseSource::new(request.seed, request.sample, STAGE);
    let available = Condition { text: true, neighbours: !request.neighbours.is_empty() };
    let plan = sampler.as_ref().and_then(|sampler| {
        let plan = guidance.plan(sampler, |guidance| Plan::new(guidance, available, noise));
        violations.take("guidance", plan)
    });
    violations.into_result()?;
    let (Some(text), Some(sampler), Some(plan)) = (text, sampler, plan) else {
        return Err(Refusal::internal("a request without violations is incomplete").into());
    };
    let captions = neighbours.iter().map(|(_, caption)| caption);
    for encoded in captions.chain([&text]).chain(&negative_text) {
        if encoded.encoder_digest != facts.text.encoder {
            return Err(Refusal::mismatch(format!(
                "the text was encoded by {}, the denoiser was trained with {}: deploy one bundle everywhere",
                encoded.encoder_digest, facts.text.encoder
            ))
            .into());
        }
    }
    let initial = initial.as_ref().map(|initial| sample(initial, facts.side as u32));
    Ok(Job { text, negative_text, neighbours, sampler, plan, guidance, noise, initial })
}

/// The picture and its mask at the model's size.
fn sample(initial: &Initial, side: u32) -> InitialSample {
    let sample = InitialSample::new(pictures::to_planes(&initial.picture_at(side)));
    match &initial.mask {
        Some(mask) => sample.with_mask(mask.resized(side).drawn().to_vec()),
        None => sample,
    }
}

fn text(
    violations: &mut Violations,
    field: &str,
    text: Option<&TextTokens>,
    facts: &Facts,
) -> Option<EncodedText> {
    let empty = TextTokens::default();
    let text = text.unwrap_or(&empty);
    violations.take(field, EncodedText::from_message(text, facts.text.max_tokens, facts.text.dim))
}
