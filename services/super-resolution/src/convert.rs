//! Requests checked against a level's facts.

use reverie_diffusion::guidance::{Condition, Guidance, GuidanceError, Plan, Strategy};
use reverie_diffusion::{NoiseSource, Sampler, augment, augment_at};
use reverie_engine::policy::Left;
use reverie_engine::trajectory::rows_of;
use reverie_imaging::upsample::bilinear;
use reverie_imaging::{Encoded, pictures};
use reverie_proto::diffusion::v1::Sampling;
use reverie_proto::limits::{GUIDANCE_WEIGHT, SHARE};
use reverie_proto::sizes::Size;
use reverie_proto::superresolution::v1::{CheckOptionsRequest, UpscaleRequest};
use reverie_service_kit::{Refusal, Violations};
use reverie_stage::text::Texts;
use reverie_stage::{model, sampling};
use tonic::Status;

use crate::level::{Conditions, Facts, Level};

/// A request that can be drawn.
pub(crate) struct Job {
    pub(crate) level: Level,
    pub(crate) sampler: Sampler,
    pub(crate) plan: Plan,
    pub(crate) noise: NoiseSource,
    pub(crate) conditions: Conditions,
}

/// Checks a request and prepares its smaller image. Blocks.
pub(crate) fn job(request: &UpscaleRequest, levels: &[Level]) -> Result<Job, Status> {
    let mut violations = Violations::new();
    let image = violations.take("image", Encoded::required(request.image.as_ref()));
    let level =
        image.as_ref().and_then(|image| starting_from(&mut violations, "image", image.size(), levels));
    // As small as the level takes it.
    let image = image.filter(|_| level.is_some()).and_then(|image| violations.take("image", image.decode()));
    let (Some(image), Some(level)) = (&image, level) else {
        violations.into_result()?;
        return Err(incomplete());
    };
    let facts = &level.facts;
    model::check_model(&request.model_digest, &facts.identity)?;
    if let Some(wanted) = &facts.text {
        model::check_encoder(request.text.iter().chain(&request.negative_text), &wanted.encoder)?;
    }
    let (text, negative) = (request.text.as_ref(), request.negative_text.as_ref());
    let texts = facts.text.as_ref().and_then(|wanted| Texts::read(&mut violations, text, negative, wanted));
    let UpscaleRequest { guidance_weight, noise_level, sampling, .. } = request;
    let options = options(&mut violations, facts, *guidance_weight, *noise_level, sampling.as_ref());
    let noise = NoiseSource::new(request.seed, request.sample, facts.stage);
    let plan = violations.take("guidance_weight", options.plan(texts.is_some(), noise));
    violations.into_result()?;
    let (Some(sampler), Some(plan)) = (options.sampler, plan) else {
        return Err(incomplete());
    };

    let planes = pictures::to_planes(image);
    let align_corners = facts.low_resolution.align_corners;
    let mut low_resolution = bilinear(&planes, facts.low_side, facts.side, align_corners);
    let noise_level = options.noise_level;
    match facts.noise_timestep(noise_level) {
        Some(timestep) => augment_at(&mut low_resolution, timestep, &facts.schedule, &noise),
        None => {
            augment(&mut low_resolution, noise_level, &facts.schedule, &noise).map_err(Refusal::internal)?;
        }
    }
    let conditions = Conditions { low_resolution, noise_level, texts: texts.unwrap_or_default() };
    Ok(Job { level: level.clone(), sampler, plan, noise, conditions })
}

/// Checks the options of a request whose image is not there yet. Gives the level, and what there is to compute. Blocks.
pub(crate) fn check(request: &CheckOptionsRequest, levels: &[Level]) -> Result<(Level, Left), Status> {
    let mut violations = Violations::new();
    let size = Size::square(request.low_resolution_size);
    let Some(level) = starting_from(&mut violations, "low_resolution_size", size, levels) else {
        violations.into_result()?;
        return Err(incomplete());
    };
    model::check_model(&request.model_digest, &level.facts.identity)?;
    let CheckOptionsRequest { guidance_weight, noise_level, sampling, .. } = request;
    let facts = &level.facts;
    let options = options(&mut violations, facts, *guidance_weight, *noise_level, sampling.as_ref());
    // What is drawn does not decide how much there is to compute.
    let noise = NoiseSource::new(0, 0, facts.stage);
    let plan = violations.take("guidance_weight", options.plan(facts.text.is_some(), noise));
    violations.into_result()?;
    let (Some(sampler), Some(plan)) = (options.sampler, plan) else { return Err(incomplete()) };
    Ok((level.clone(), rows_of(&sampler, &plan)))
}

/// The level that starts from images of `size`, which `field` of the request gives.
fn starting_from<'a>(
    violations: &mut Violations,
    field: &str,
    size: Size,
    levels: &'a [Level],
) -> Option<&'a Level> {
    let level = levels.iter().find(|level| size == Size::square(level.facts.low_side as u32));
    if level.is_none() {
        let sides: Vec<_> = levels.iter().map(|level| format!("{0} x {0}", level.facts.low_side)).collect();
        violations.add(field, format!("is {size} pixels, must be {}", sides.join(" or ")));
    }
    level
}

/// What a request can choose of a level, with the model's defaults for the rest.
struct Options {
    guidance_weight: f32,
    noise_level: f32,
    /// None if it cannot be made.
    sampler: Option<Sampler>,
}

impl Options {
    fn plan(&self, has_text: bool, noise: NoiseSource) -> Result<Plan, GuidanceError> {
        let (strategy, text_weight) = (Strategy::Text, self.guidance_weight);
        let guidance = Guidance { strategy, text_weight, neighbour_weight: 1.0 };
        let guidance = if has_text { guidance } else { Guidance::OFF };
        Plan::new(guidance, Condition { text: has_text, neighbours: false }, noise)
    }
}

fn options(
    violations: &mut Violations,
    facts: &Facts,
    guidance_weight: Option<f32>,
    noise_level: Option<f32>,
    sampling: Option<&Sampling>,
) -> Options {
    violations.require(
        facts.text.is_some() || guidance_weight.is_none(),
        "guidance_weight",
        "must not be set: this level takes no text to be guided by",
    );
    let weight = violations.in_range("guidance_weight", guidance_weight, GUIDANCE_WEIGHT);
    let noise_level = violations.in_range("noise_level", noise_level, SHARE);
    let (diffusion, sample) = (&facts.diffusion, facts.diffusion.own_sample());
    let settings = sampling::settings(violations, sampling, diffusion, &facts.defaults, sample);
    Options {
        guidance_weight: weight.unwrap_or_else(|| facts.default_guidance_weight()),
        noise_level: noise_level.unwrap_or_else(|| facts.default_noise_level()),
        sampler: sampling::sampler(violations, &facts.schedule, &settings),
    }
}

fn incomplete() -> Status {
    Refusal::internal("a request without violations is incomplete").into()
}
