//! Requests checked against the model's facts.

use reverie_denoising::serving;
use reverie_diffusion::guidance::{Condition, Plan};
use reverie_diffusion::{NoiseSource, Sampler};
use reverie_imaging::fit::{Fit, Reader};
use reverie_imaging::pictures::Rgb;
use reverie_imaging::{Encoded, pool};
use reverie_inference::package::WithoutText;
use reverie_proto::denoiser::v1::{DenoiseRequest, GetModelResponse};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::TextTokens;
use reverie_proto::tensors::EncodedText;
use reverie_service_kit::{Refusal, Violations};
use tonic::Status;

use crate::facts::{Facts, Frame};
use crate::guidance::Settled;
use crate::start::{self, Start};

/// The base model's place in the cascade, for the noise streams.
const STAGE: u16 = 0;

/// A request that can be drawn.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) text: EncodedText,
    pub(crate) negative_text: Option<EncodedText>,
    /// The neighbours' captions, in order.
    pub(crate) captions: Vec<EncodedText>,
    /// Their pictures, not yet decoded, and whether each is what the model sees already.
    pictures: Vec<(Encoded, bool)>,
    pub(crate) frame: Frame,
    pub(crate) sampler: Sampler,
    pub(crate) plan: Plan,
    pub(crate) guidance: Settled,
    pub(crate) noise: NoiseSource,
    pub(crate) start: Start,
}

/// Checks a request, without decoding a pixel; [`Job::decode`] follows.
pub(crate) fn job(request: &DenoiseRequest, facts: &Facts) -> Result<Job, Status> {
    serving::check_model(&request.model_digest, &facts.identity)?;
    let captions = request.neighbours.iter().filter_map(|neighbour| neighbour.caption.as_ref());
    let texts = request.text.iter().chain(&request.negative_text).chain(captions);
    serving::check_encoder(texts, &facts.text.encoder)?;
    start::check_decoder(request, facts)?;
    let mut violations = Violations::new();
    let negative_text = request
        .negative_text
        .as_ref()
        .and_then(|negative| text(&mut violations, "negative_text", Some(negative), facts));
    violations.require(
        request.negative_text.is_some() || facts.text.without != WithoutText::EmptyText,
        "negative_text",
        "is missing: without a negative prompt this model takes the empty text, encoded",
    );
    let model = GetModelResponse::from(facts);
    if let Some(why) = model.unfit_negative_prompt().filter(|_| request.negative_text.is_some()) {
        violations.add("negative_text", why);
    }
    for (field, why) in request.guidance.iter().flat_map(|guidance| model.unfit_guidance(guidance)) {
        violations.add(format!("guidance.{field}"), why);
    }
    let text = text(&mut violations, "text", request.text.as_ref(), facts);
    let most = facts.max_neighbours();
    violations.require(
        request.neighbours.len() <= most,
        "neighbours",
        match most {
            0 => "must be none: this model takes no neighbours".to_owned(),
            _ => format!("must be at most {most}, not {}", request.neighbours.len()),
        },
    );
    let (mut pictures, mut captions) = (Vec::new(), Vec::new());
    for (index, neighbour) in request.neighbours.iter().enumerate().take(most) {
        let image = violations.take(picture_field(index), Encoded::required(neighbour.image.as_ref()));
        let side = facts.neighbour_reader.map(|reader| Size::square(reader.side));
        if let (Some(image), Some(side), true) = (&image, side, neighbour.is_prepared) {
            let why = format!("is {} pixels, must be {side}, as it is said to be prepared", image.size());
            violations.require(image.size() == side, picture_field(index), why);
        }
        pictures.extend(image.map(|image| (image, neighbour.is_prepared)));
        let caption = self::text(
            &mut violations,
            &format!("neighbours[{index}].caption"),
            neighbour.caption.as_ref(),
            facts,
        );
        captions.extend(caption);
    }
    let guidance = Settled::of(&mut violations, request.guidance.as_ref(), &facts.defaults);
    let frame = frame(&mut violations, request.size, facts);
    let start = start::of(&mut violations, request, facts, frame);
    let (diffusion, defaults) = (&facts.diffusion, &facts.defaults);
    let asked = request.sampling.as_ref();
    let mut settings = serving::sampling(&mut violations, asked, diffusion, defaults, frame.sample);
    settings.strength = start.strength;
    let sampler = Sampler::new(&facts.schedule, &settings);
    let wrong = sampler.as_ref().map_or_else(serving::field_of, |_| "sampling");
    let sampler = violations.take(wrong, sampler);
    let noise = NoiseSource::new(request.seed, request.sample, STAGE);
    let available = Condition { text: true, neighbours: !request.neighbours.is_empty() };
    let plan = sampler.as_ref().and_then(|sampler| {
        let is_told = facts.guidance.is_some();
        let plan = guidance.plan(sampler, is_told, |guidance| Plan::new(guidance, available, noise));
        violations.take("guidance", plan)
    });
    violations.into_result()?;
    let (Some(text), Some(sampler), Some(plan)) = (text, sampler, plan) else {
        return Err(Refusal::internal("a request without violations is incomplete").into());
    };
    Ok(Job { text, negative_text, captions, pictures, frame, sampler, plan, guidance, noise, start })
}

fn picture_field(index: usize) -> String {
    format!("neighbours[{index}].image")
}

impl Job {
    /// Decodes the request's pictures, one after the other: gives the squares that `reader` makes of the neighbours', and puts
    /// the picture to start from in its place.
    pub(crate) async fn decode(&mut self, reader: Option<Reader>) -> Result<Vec<Rgb>, Status> {
        let mut violations = Violations::new();
        let mut squares = Vec::with_capacity(self.pictures.len());
        for (index, (picture, is_prepared)) in std::mem::take(&mut self.pictures).into_iter().enumerate() {
            let reader = reader.filter(|_| !is_prepared);
            let see = move |picture: &Rgb| match reader {
                Some(reader) => reader.square(picture, Fit::Crop),
                None => picture.clone(),
            };
            let square = pool::decode(picture, see).await;
            squares.extend(violations.take(picture_field(index), square));
        }
        if let Err(error) = self.start.decode(self.frame.size).await {
            violations.add(start::field(&error), error);
        }
        violations.into_result()?;
        Ok(squares)
    }
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

fn text(
    violations: &mut Violations,
    field: &str,
    text: Option<&TextTokens>,
    facts: &Facts,
) -> Option<EncodedText> {
    let empty = TextTokens::default();
    let text = text.unwrap_or(&empty);
    let wanted = &facts.text;
    violations.take(field, EncodedText::from_message(text, wanted.max_tokens, wanted.dim, wanted.pooled_dim))
}
