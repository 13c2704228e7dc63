//! The cascade: encode the prompt and find neighbours side by side, draw the base picture (and decode it, where the model works
//! on latents), enlarge it level by level.
//!
//! Each step is one call to one service; no stage knows the next one.

use std::mem;
use std::time::Instant;

use futures::future::try_join_all;
use reverie_imaging::fit::Reader;
use reverie_imaging::pictures;
use reverie_proto::denoiser::v1::{DenoiseRequest, InitialLatent, NeighbourCondition, PredictRequest};
use reverie_proto::diffusion::v1::{InitialPicture, ModelIdentity, StageTimings};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{
    Completed, GeneratedImage, NeighboursFound, Preview, Progress, Stage, StageReport, Started,
};
use reverie_proto::knowledge::v1::Neighbour;
use reverie_proto::sizes::Size;
use reverie_proto::superresolution::v1::UpscaleRequest;
use reverie_proto::tensor::v1::{Image, ImageFormat, Latent, TextTokens};
use reverie_service_kit::{Context, Refusal};
use tokio::sync::mpsc::Sender;
use tonic::Status;

use crate::admission::Need;
use crate::convert::{Memory, Run};
use crate::fields::Fields;
use crate::measure;
use crate::pace::{Pace, Route};
use crate::position::{Place, Position};
use crate::stages::Stages;
use crate::{images, kept, latents};

/// The stages that a run goes through.
fn started(run: &Run) -> Started {
    let retrieve = matches!(run.memory, Memory::Retrieval { .. }).then_some(Stage::Retrieve);
    let works_on_latents = run.base.latent.is_some();
    let encode_picture = (works_on_latents && run.initial.is_some()).then_some(Stage::EncodePicture);
    let decode = works_on_latents.then_some(Stage::Decode);
    let levels = run.levels.iter().map(|_| Stage::SuperResolution);
    let before = [Stage::Encode].into_iter().chain(retrieve).chain(encode_picture);
    let stages = before.chain([Stage::Base]).chain(decode).chain(levels);
    Started { seed: run.seed, stages: stages.map(Into::into).collect() }
}

/// Draws one picture and tells `news` about it.
pub(crate) async fn draw(
    mut run: Run,
    stages: &Stages,
    context: Context,
    news: &Sender<Event>,
    position: &Position,
    pace: &Pace,
) -> Result<(), Status> {
    let begun = Instant::now();
    let fields = Fields::of(&run);
    let mut ledger = Ledger { news, position, reports: Vec::new() };
    ledger.tell(Event::Started(started(&run))).await;

    // 1. The prompt's tokens and the reference images.
    let (has_negative_prompt, encoder) =
        (run.negative_prompt.is_some(), run.base.text_encoder_digest.clone());
    let texts = texts_of(&mut run);
    position.enter(Stage::Encode);
    let encoding = timed(stages.encode(context, &encoder, texts, false, |field| fields.texts(field)));
    let retrieving =
        timed(neighbours_of(mem::replace(&mut run.memory, Memory::None), run.reader, stages, context));
    let ((text, encode_seconds), (memory, retrieve_seconds)) = tokio::try_join!(encoding, retrieving)?;
    if let Some(found) = memory.searched.then_some(retrieve_seconds) {
        ledger.done(Stage::Retrieve, 1, found, None, None).await;
    }
    let neighbours = memory.found.neighbours.clone();
    if memory.searched || !neighbours.is_empty() {
        ledger.tell(Event::Neighbours(memory.found)).await;
    }

    // 2. The neighbours' captions: the base model's DStack reads a neighbour's picture and its caption.
    let captions = neighbours.iter().map(|neighbour| neighbour.caption.clone()).collect();
    // Those of a knowledge base are cut to fit: who asks did not write them.
    let own = |field: &str| fields.captions(field);
    let encoding = timed(stages.encode(context, &encoder, captions, memory.searched, own));
    let (captions, caption_seconds) = encoding.await?;
    ledger.done(Stage::Encode, 1, encode_seconds + caption_seconds, None, None).await;
    let neighbours = memory.pictures.into_iter().zip(captions).map(prepared);

    // 3. The base picture.
    let (initial, initial_latent) = start(&mut run, &fields, stages, context, &mut ledger).await?;
    let request = DenoiseRequest {
        seed: run.seed,
        sample: 0,
        text: text.first().cloned(),
        neighbours: neighbours.collect(),
        guidance: run.guidance,
        sampling: run.base_sampling,
        // The empty text is for those that take it; others are told nothing.
        negative_text: text.get(1).filter(|_| has_negative_prompt || run.base.takes_empty_text).cloned(),
        initial,
        initial_latent,
        size: Some(run.size),
        model_digest: run.base.model.as_ref().map(|model| model.digest.clone()).unwrap_or_default(),
    };
    position.enter(Stage::Base);
    let own = |field: &str| fields.base(field);
    let route = Route { decodes: run.base.latent.is_some(), levels: run.levels.len() };
    let in_time = context.reserving(pace.after_base(route).max(position.time_after(Stage::Base)));
    let drawing = timed(stages.denoise(in_time, request, own, |step| ledger.step(Stage::Base.into(), step)));
    let (base, seconds) = drawing.await?;
    let drawn = Instant::now();
    ledger.done(Stage::Base, base.step_kinds.len() as u32, seconds, base.timings, base.model).await;
    let (mut image, mut place) = match base.latent {
        None => (base.image.unwrap_or_default(), Place::from(Stage::Base)),
        Some(latent) => {
            let image = decode(latent, &fields, stages, context, &mut ledger).await?;
            (kept::put_back(run.initial.as_ref(), run.size, image).await?, Place::from(Stage::Decode))
        }
    };

    // 4. Level by level.
    for (index, (level, options)) in run.levels.into_iter().enumerate() {
        if run.previews {
            let image = encode_picture(image.clone(), run.output_format).await?;
            let Place { stage, level } = place;
            ledger.tell(Event::Preview(Preview { stage: stage.into(), level, image: Some(image) })).await;
        }
        place = Place::level(index);
        let request = UpscaleRequest {
            seed: run.seed,
            sample: 0,
            image: Some(image),
            text: text.first().cloned(),
            guidance_weight: options.guidance_weight,
            noise_level: options.noise_level,
            sampling: options.sampling,
            negative_text: text.get(1).filter(|_| level.takes_empty_text).cloned(),
            model_digest: level.model.digest.clone(),
        };
        position.enter(place);
        let mut steps = 1;
        let own = |field: &str| Fields::level(index, field);
        let enlarging = timed(stages.upscale(context, &level, request, own, |step| {
            steps = step.steps;
            ledger.step(place, step);
        }));
        let (larger, seconds) = enlarging.await?;
        ledger.done(place, steps, seconds, larger.timings, larger.model).await;
        image =
            kept::put_back(run.initial.as_ref(), Size::square(level.side), larger.image.unwrap_or_default())
                .await?;
    }

    // 5. The picture, and what one needs to repeat it.
    let image = encode_picture(image, run.output_format).await?;
    pace.note(route, drawn.elapsed());
    ledger.tell(Event::Image(GeneratedImage { image: Some(image) })).await;
    let completed = Completed {
        seed: run.seed,
        stages: mem::take(&mut ledger.reports),
        step_kinds: base.step_kinds,
        total_seconds: begun.elapsed().as_secs_f64(),
        guidance: base.guidance,
    };
    ledger.tell(Event::Completed(completed)).await;
    Ok(())
}

/// Asks the base model and every level what they would need, in the order of the cascade. A level that cannot use its options says so
/// now, and not when the image before it is drawn.
pub(crate) async fn predict(
    run: &Run,
    strength: Option<f64>,
    stages: &Stages,
    context: Context,
) -> Result<Vec<Need>, Status> {
    let fields = Fields::of(run);
    let request = PredictRequest {
        neighbours: match &run.memory {
            Memory::Retrieval { request, .. } => request.limit,
            Memory::References { captions, .. } => captions.len() as u32,
            Memory::None => 0,
        },
        guidance: run.guidance,
        sampling: run.base_sampling,
        strength,
        size: Some(run.size),
        model_digest: run.base.model.as_ref().map(|model| model.digest.clone()).unwrap_or_default(),
    };
    let base = async {
        let prediction = stages.predict(context, request, |field| fields.base(field)).await?;
        Ok::<_, Status>(prediction.map(|prediction| Need { place: Stage::Base.into(), prediction }))
    };
    let levels = run.levels.iter().enumerate().map(async |(index, (level, options))| {
        let own = move |field: &str| Fields::level(index, field);
        let prediction = stages.check_options(context, level, options, own).await?;
        Ok::<_, Status>(prediction.map(|prediction| Need { place: Place::level(index), prediction }))
    });
    let (base, levels) = tokio::try_join!(base, try_join_all(levels))?;
    Ok(base.into_iter().chain(levels.into_iter().flatten()).collect())
}

/// The texts to encode: the prompt, and the negative prompt, which is the empty text for models that take it.
fn texts_of(run: &mut Run) -> Vec<String> {
    let takes_empty_text =
        run.base.takes_empty_text || run.levels.iter().any(|(level, _)| level.takes_empty_text);
    let negative = run.negative_prompt.take().or_else(|| takes_empty_text.then(String::new));
    [mem::take(&mut run.prompt)].into_iter().chain(negative).collect()
}

/// What the base model starts from: the caller's picture at its size, or its latent.
async fn start(
    run: &mut Run,
    fields: &Fields,
    stages: &Stages,
    context: Context,
    ledger: &mut Ledger<'_>,
) -> Result<(Option<InitialPicture>, Option<InitialLatent>), Status> {
    let Some((own, model)) = run.initial.as_ref().zip(run.base.latent.as_ref()) else {
        return Ok((run.initial.as_ref().and_then(|initial| initial.message(run.size)), None));
    };
    ledger.position.enter(Stage::EncodePicture);
    let encoding = timed(latents::encode(own, run.size, model, stages, context, fields));
    let (latents::Encoded { initial, answer }, seconds) = encoding.await?;
    ledger.done(Stage::EncodePicture, 1, seconds, answer.timings, answer.model).await;
    Ok((None, Some(initial)))
}

async fn decode(
    latent: Latent,
    fields: &Fields,
    stages: &Stages,
    context: Context,
    ledger: &mut Ledger<'_>,
) -> Result<Image, Status> {
    ledger.position.enter(Stage::Decode);
    let decoding = timed(stages.decode(context, latent, |field| fields.autoencoder(field)));
    let (decoded, seconds) = decoding.await?;
    ledger.done(Stage::Decode, 1, seconds, decoded.timings, decoded.model).await;
    Ok(decoded.image.unwrap_or_default())
}

/// A neighbour whose picture is the square that the model sees.
fn prepared((image, caption): (Image, TextTokens)) -> NeighbourCondition {
    NeighbourCondition { image: Some(image), caption: Some(caption), is_prepared: true }
}

/// What an image is drawn from besides its prompt.
#[derive(Default)]
struct References {
    /// Whether a knowledge base was searched.
    searched: bool,
    /// What the caller is told.
    found: NeighboursFound,
    /// The neighbours' pictures as the base model sees them, in the same order.
    pictures: Vec<Image>,
}

async fn neighbours_of(
    memory: Memory,
    reader: Option<Reader>,
    stages: &Stages,
    context: Context,
) -> Result<References, Status> {
    match memory {
        Memory::None => Ok(References::default()),
        Memory::Retrieval { request, refuse } => {
            let answer = stages.retrieve(context, request, Fields::retrieval).await?;
            if refuse && answer.nothing_matched {
                return Err(nothing_matched(&answer.knowledge_base).into());
            }
            let mut found = NeighboursFound {
                neighbours: answer.neighbours,
                knowledge_base: answer.knowledge_base,
                epoch: answer.epoch,
                nothing_matched: answer.nothing_matched,
                unmatched_words: answer.unmatched_words,
            };
            let pictures = images::of_neighbours(&mut found, reader).await?;
            Ok(References { searched: true, found, pictures })
        }
        Memory::References { captions, pictures } => {
            let neighbour = |(caption, number)| Neighbour {
                id: format!("reference-{number}"),
                caption,
                ..Neighbour::default()
            };
            let neighbours = captions.into_iter().zip(1_u32..).map(neighbour).collect();
            let found = NeighboursFound { neighbours, ..NeighboursFound::default() };
            Ok(References { searched: false, found, pictures })
        }
    }
}

/// It does not say what the text names: messages are logged.
fn nothing_matched(knowledge_base: &str) -> Refusal {
    Refusal::not_found(format!(
        "nothing in the knowledge base {knowledge_base:?} matches; set retrieval.query to other words, or retrieval.no_match to draw \
         without reference images"
    ))
}

/// Tells the caller what happens, and keeps account of the stages.
struct Ledger<'a> {
    news: &'a Sender<Event>,
    position: &'a Position,
    reports: Vec<StageReport>,
}

impl Ledger<'_> {
    /// A caller that is gone hears nothing; the run is then cancelled from outside.
    async fn tell(&self, event: Event) {
        let _ = self.news.send(event).await;
    }

    /// Left out, rather than waited for, when the caller lags behind. The last step is told when the picture is there.
    fn step(&self, place: Place, step: reverie_proto::diffusion::v1::StepProgress) {
        self.position.step(place, step.step, step.steps);
        if step.step < step.steps {
            let Place { stage, level } = place;
            let progress = Progress { stage: stage.into(), level, step: step.step, steps: step.steps };
            let _ = self.news.try_send(Event::Progress(progress));
        }
    }

    async fn done(
        &mut self,
        place: impl Into<Place>,
        steps: u32,
        seconds: f64,
        timings: Option<StageTimings>,
        model: Option<ModelIdentity>,
    ) {
        let place = place.into();
        measure::stage(place, seconds);
        let Place { stage, level } = place;
        self.reports.push(StageReport { stage: stage.into(), level, seconds, timings, model });
        self.tell(Event::Progress(Progress { stage: stage.into(), level, step: steps, steps })).await;
    }
}

async fn timed<T>(work: impl Future<Output = Result<T, Status>>) -> Result<(T, f64), Status> {
    let begun = Instant::now();
    Ok((work.await?, begun.elapsed().as_secs_f64()))
}

async fn encode_picture(image: Image, format: ImageFormat) -> Result<Image, Status> {
    let encode = move || pictures::decode(&image).and_then(|picture| pictures::encode(&picture, format));
    let encoded = tokio::task::spawn_blocking(encode).await.map_err(Refusal::internal)?;
    encoded.map_err(|error| {
        Refusal::internal(format!("a stage gave a picture that cannot be read: {error}")).into()
    })
}
