//! Requests checked against the model's facts.

use std::time::Duration;

use reverie_diffusion::guidance::{Condition, Plan};
use reverie_diffusion::{NoiseSource, Sampler};
use reverie_engine::cost::Weight;
use reverie_engine::policy::Left;
use reverie_engine::trajectory::rows_of;
use reverie_imaging::Encoded;
use reverie_proto::denoiser::v1::{DenoiseRequest, GetModelResponse, PredictRequest};
use reverie_proto::diffusion::v1::Sampling;
use reverie_proto::limits::is_strength;
use reverie_proto::sizes::Size;
use reverie_proto::tensors::EncodedText;
use reverie_service_kit::guidance::{unfit_guidance, unfit_negative_prompt};
use reverie_service_kit::{Refusal, Violations};
use reverie_stage::text::{self, Texts};
use reverie_stage::{model, sampling};
use tonic::Status;

use crate::facts::{Facts, Frame};
use crate::guidance::Settled;
use crate::start::{self, Start};

/// The base model's place in the cascade, for the noise streams.
const STAGE: u16 = 0;

/// A request that can be drawn.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) texts: Texts,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) frame: Frame,
    pub(crate) sampler: Sampler,
    pub(crate) plan: Plan,
    pub(crate) guidance: Settled,
    pub(crate) noise: NoiseSource,
    pub(crate) start: Start,
    /// The least time between two estimates of the image; none if they are not asked for.
    pub(crate) estimates: Option<Duration>,
}

/// A reference image and its caption.
#[derive(Debug)]
pub(crate) struct Neighbour {
    /// Not yet decoded.
    pub(crate) image: Encoded,
    /// Whether the image is the square that the model sees already.
    pub(crate) is_prepared: bool,
    pub(crate) caption: EncodedText,
}

/// Checks a request, without decoding a pixel.
pub(crate) fn job(request: &DenoiseRequest, facts: &Facts) -> Result<Job, Status> {
    model::check_model(&request.model_digest, &facts.identity)?;
    let captions = request.neighbours.iter().filter_map(|neighbour| neighbour.caption.as_ref());
    let texts = request.text.iter().chain(&request.negative_text).chain(captions);
    model::check_encoder(texts, &facts.text.encoder)?;
    start::check_decoder(request, facts)?;
    let mut violations = Violations::new();
    let (text, negative) = (request.text.as_ref(), request.negative_text.as_ref());
    let texts = Texts::read(&mut violations, text, negative, &facts.text);
    let described = GetModelResponse::from(facts);
    if let Some(why) = unfit_negative_prompt(&described).filter(|_| request.negative_text.is_some()) {
        violations.add("negative_text", why);
    }
    for (field, why) in request.guidance.iter().flat_map(|guidance| unfit_guidance(&described, guidance)) {
        violations.add(format!("guidance.{field}"), why);
    }
    let most = facts.max_neighbours();
    violations.require(
        request.neighbours.len() <= most,
        "neighbours",
        match most {
            0 => "must be none: this model takes no neighbours".to_owned(),
            _ => format!("must be at most {most}, not {}", request.neighbours.len()),
        },
    );
    let mut neighbours = Vec::new();
    for (index, neighbour) in request.neighbours.iter().enumerate().take(most) {
        let image = violations.take(picture_field(index), Encoded::required(neighbour.image.as_ref()));
        let side = facts.neighbour_reader.map(|reader| Size::square(reader.side));
        if let (Some(image), Some(side), true) = (&image, side, neighbour.is_prepared) {
            let why = format!("is {} pixels, must be {side}, as it is said to be prepared", image.size());
            violations.require(image.size() == side, picture_field(index), why);
        }
        let field = format!("neighbours[{index}].caption");
        let caption = text::read(&mut violations, &field, neighbour.caption.as_ref(), &facts.text);
        let is_prepared = neighbour.is_prepared;
        neighbours.extend(image.zip(caption).map(|(image, caption)| Neighbour {
            image,
            is_prepared,
            caption,
        }));
    }
    let guidance = Settled::of(&mut violations, request.guidance.as_ref(), &facts.defaults);
    let frame = frame(&mut violations, request.size, facts);
    let start = start::of(&mut violations, request, facts, frame);
    let noise = NoiseSource::new(request.seed, request.sample, STAGE);
    let sampling = Asked { sampling: request.sampling.as_ref(), strength: start.strength };
    let sampler = sampler(&mut violations, &sampling, facts, frame);
    let plan = sampler.as_ref().and_then(|sampler| {
        plan(&mut violations, &guidance, sampler, !request.neighbours.is_empty(), noise, facts)
    });
    violations.require(
        request.estimate_interval_milliseconds == 0 || facts.diffusion.latent.is_none(),
        "estimate_interval_milliseconds",
        "must be 0: this model works on latents, which are not decoded between steps",
    );
    violations.into_result()?;
    let (Some(texts), Some(sampler), Some(plan)) = (texts, sampler, plan) else {
        return Err(Refusal::internal("a request without violations is incomplete").into());
    };
    let interval = Duration::from_millis(request.estimate_interval_milliseconds.into());
    let estimates = (!interval.is_zero()).then_some(interval);
    Ok(Job { texts, neighbours, frame, sampler, plan, guidance, noise, start, estimates })
}

/// Checks a request whose text and images are not there yet. Gives what there is to compute, and the weight of a row.
pub(crate) fn prediction(request: &PredictRequest, facts: &Facts) -> Result<(Left, Weight), Status> {
    model::check_model(&request.model_digest, &facts.identity)?;
    let mut violations = Violations::new();
    let guidance = Settled::of(&mut violations, request.guidance.as_ref(), &facts.defaults);
    let frame = frame(&mut violations, request.size, facts);
    let strength = request.strength.unwrap_or(1.0);
    let told = format!("must be above 0 and at most 1 (got {strength})");
    violations.require(is_strength(strength), "strength", told);
    let asked = Asked { sampling: request.sampling.as_ref(), strength };
    let sampler = sampler(&mut violations, &asked, facts, frame);
    // What is drawn does not decide how much there is to compute.
    let noise = NoiseSource::new(0, 0, STAGE);
    let plan = sampler
        .as_ref()
        .and_then(|sampler| plan(&mut violations, &guidance, sampler, request.neighbours > 0, noise, facts));
    violations.into_result()?;
    let (Some(sampler), Some(plan)) = (sampler, plan) else {
        return Err(Refusal::internal("a request without violations is incomplete").into());
    };
    // A graph that takes neighbours is given one at least.
    let conditions = (request.neighbours as usize).max(1);
    Ok((rows_of(&sampler, &plan), Weight { elements: frame.elements() as f64, conditions }))
}

/// Which steps a request asks for.
struct Asked<'a> {
    sampling: Option<&'a Sampling>,
    /// The share of the steps that are taken.
    strength: f64,
}

fn sampler(violations: &mut Violations, asked: &Asked<'_>, facts: &Facts, frame: Frame) -> Option<Sampler> {
    let Facts { diffusion, defaults, schedule, .. } = facts;
    let mut settings = sampling::settings(violations, asked.sampling, diffusion, defaults, frame.sample);
    settings.strength = asked.strength;
    sampling::sampler(violations, schedule, &settings)
}

fn plan(
    violations: &mut Violations,
    guidance: &Settled,
    sampler: &Sampler,
    has_neighbours: bool,
    noise: NoiseSource,
    facts: &Facts,
) -> Option<Plan> {
    let available = Condition { text: true, neighbours: has_neighbours };
    let is_told = facts.guidance.is_some();
    let plan = guidance.plan(sampler, is_told, |guidance| Plan::new(guidance, available, noise));
    violations.take("guidance", plan)
}

/// The field of a neighbour's image.
pub(crate) fn picture_field(index: usize) -> String {
    format!("neighbours[{index}].image")
}

/// What the picture is drawn on; the model's own where it does not draw what was asked for.
fn frame(violations: &mut Violations, asked: Option<Size>, facts: &Facts) -> Frame {
    let Some(size) = asked else { return facts.own_frame() };
    let model = GetModelResponse::from(facts);
    if model.draws(size) {
        return facts.frame(size);
    }
    violations.add("size", format!("must be {}, not {size}", model.sizes_in_words([])));
    facts.own_frame()
}
