//! The cascade: encode the prompt and find neighbours side by side, once for all images of a request; then draw each image
//! (`cascade/image.rs`): the base picture (decoded, where the model works on latents), enlarged level by level.
//!
//! Each step is one call to one service; no stage knows the next one.

mod anytime;
mod image;
mod ledger;
mod prediction;

use std::mem;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use reverie_imaging::fit::Reader;
use reverie_proto::denoiser::v1::{InitialLatent, NeighbourCondition};
use reverie_proto::diffusion::v1::InitialPicture;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{Completed, NeighboursFound, Stage, Started};
use reverie_proto::knowledge::v1::Neighbour;
use reverie_proto::tensor::v1::{Image, TextTokens};
use reverie_service_kit::refusal::{is_for_other_models, of_part};
use reverie_service_kit::{Context, Permit, Refusal};
use tonic::{Code, Status};

use self::image::{Drawing, Drawn, Source};
use self::ledger::Ledger;
pub(crate) use self::prediction::predict;
use crate::convert::Run;
use crate::fields::Fields;
use crate::memory::{Memory, Search};
use crate::news::News;
use crate::pace::Pace;
use crate::position::Position;
use crate::stages::Stages;
use crate::{images, latents};

/// The stages that a run goes through.
fn started(run: &Run) -> Started {
    let retrieve = run.memory.search.is_some().then_some(Stage::Retrieve);
    let works_on_latents = run.base.latent.is_some();
    let encode_picture = (works_on_latents && run.initial.is_some()).then_some(Stage::EncodePicture);
    let decode = works_on_latents.then_some(Stage::Decode);
    let levels = run.levels.iter().map(|_| Stage::SuperResolution);
    let before = [Stage::Encode].into_iter().chain(retrieve).chain(encode_picture);
    let stages = before.chain([Stage::Base]).chain(decode).chain(levels);
    Started { seed: run.seeds[0], stages: stages.map(Into::into).collect(), seeds: run.seeds.clone() }
}

/// Draws all images of a request and tells `news` about them.
///
/// # Errors
/// If some of several images fail: the status of the first that did, once the others are drawn. If a model is gone that they were
/// planned with: that, at once.
pub(crate) async fn draw(
    mut run: Run,
    stages: &Stages,
    context: Context,
    news: &News,
    position: &Position,
    (pace, permit): (&Pace, &Permit),
) -> Result<(), Status> {
    let begun = Instant::now();
    let fields = Fields::of(&run);
    let mut ledger = Ledger::new(news, position, 0);
    let preparing = prepare(&mut run, &fields, stages, context, &mut ledger);
    // On the heap, as the images: they hold what the stages answer.
    let source = in_time(context, position, Box::pin(preparing)).await?;

    let (run, source, fields) = (&run, &source, &fields);
    let mut drawing: FuturesUnordered<_> = (0..)
        .zip(&run.seeds)
        .map(async |(index, &seed)| {
            let position = position.of_image(index as usize);
            let drawing = Drawing { index, seed, begun, run, source, fields, stages, context, pace, permit };
            let drawn = drawing.draw(Ledger::new(news, &position, index));
            let drawn = in_time(context, &position, Box::pin(drawn)).await;
            position.end();
            drawn.map_err(|status| (index, status))
        })
        .collect();
    let (mut drawn, mut failure) = (Vec::new(), None);
    while let Some(outcome) = drawing.next().await {
        match outcome {
            Ok(image) => drawn.push(image),
            Err((_, status)) if is_for_other_models(&status) => return Err(status),
            Err(failed) => failure = failure.or(Some(failed)),
        }
    }
    drop(drawing);
    if let Some((index, status)) = failure {
        return Err(told_of(index, &run.seeds, drawn.len(), status));
    }
    let completed = completed(drawn, &mut ledger, begun);
    in_time(context, position, async {
        ledger.tell(Event::Completed(completed)).await;
        Ok(())
    })
    .await
}

/// Does `work` until the deadline. Whichever stage's timer was the first: the caller hears whose limit it was, and of its image.
async fn in_time<T>(
    context: Context,
    position: &Position,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let done = context.within("drawing", work).await;
    done.map_err(|status| match status.code() {
        Code::DeadlineExceeded => context.out_of_time(position),
        _ => status,
    })
}

/// The failure of the image at `index`; if there are several, it says which, and how many were `drawn`.
fn told_of(index: u32, seeds: &[u64], drawn: usize, status: Status) -> Status {
    if seeds.len() == 1 {
        return status;
    }
    let (seed, count) = (seeds[index as usize], seeds.len());
    of_part(
        format_args!("image at index {index} (seed {seed}; {drawn} of {count} images were drawn)"),
        &status,
    )
}

/// What is needed to repeat the images. They come in the order in which they were done.
fn completed(mut drawn: Vec<Drawn>, ledger: &mut Ledger<'_>, begun: Instant) -> Completed {
    drawn.sort_by_key(|image| image.report.index);
    let mut completed = Completed {
        stages: ledger.take_reports(),
        total_seconds: begun.elapsed().as_secs_f64(),
        ..Completed::default()
    };
    if let Some(Drawn { report, guidance }) = drawn.first() {
        completed.seed = report.seed;
        completed.stages.extend(report.stages.iter().cloned());
        completed.step_kinds.clone_from(&report.step_kinds);
        completed.guidance = *guidance;
    }
    completed.images = drawn.into_iter().map(|image| image.report).collect();
    completed.degraded = completed.images.iter().any(|image| image.degraded);
    completed
}

/// What is done once for all images.
async fn prepare(
    run: &mut Run,
    fields: &Fields,
    stages: &Stages,
    context: Context,
    ledger: &mut Ledger<'_>,
) -> Result<Source, Status> {
    ledger.tell(Event::Started(started(run))).await;
    let begun = Instant::now();

    // 1. The prompt's tokens and the reference images.
    let (has_negative_prompt, encoder) =
        (run.negative_prompt.is_some(), run.base.text_encoder_digest.clone());
    let texts = texts_of(run);
    ledger.position.enter(Stage::Encode);
    let encoding = timed(stages.encode(context, &encoder, texts, false, |field| fields.texts(field)));
    let Memory { search, own } = mem::take(&mut run.memory);
    let searches = search.is_some();
    let retrieving = timed(search_for(search, run.reader, fields, stages, context));
    let ((text, encode_seconds), (found, retrieve_seconds)) = tokio::try_join!(encoding, retrieving)?;
    if searches {
        ledger.done(Stage::Retrieve, 1, retrieve_seconds, None, None).await;
    }
    let References { mut told, images: found_images } = found;
    let found_captions = told.neighbours.iter().map(|neighbour| neighbour.caption.clone()).collect();
    told.neighbours.splice(0..0, own.captions.iter().zip(1_u32..).map(own_reference));
    if searches || !told.neighbours.is_empty() {
        ledger.tell(Event::Neighbours(told)).await;
    }

    // 2. The neighbours' captions: the base model's DStack reads a neighbour's picture and its caption.
    // Those of a knowledge base are cut to fit: who asks did not write them.
    let encoding = async {
        tokio::try_join!(
            stages.encode(context, &encoder, own.captions, false, |field| fields.captions(field)),
            stages.encode(context, &encoder, found_captions, true, |_| None),
        )
    };
    let ((own_captions, found_captions), caption_seconds) = timed(encoding).await?;
    ledger.done(Stage::Encode, 1, encode_seconds + caption_seconds, None, None).await;
    let images = own.images.into_iter().chain(found_images);
    let neighbours = images.zip(own_captions.into_iter().chain(found_captions)).map(prepared).collect();
    let seconds = begun.elapsed().as_secs_f64();

    // 3. What the base model starts from.
    let (initial, initial_latent) = start(run, fields, stages, context, ledger).await?;
    Ok(Source { text, has_negative_prompt, neighbours, seconds, initial, initial_latent })
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
    run: &Run,
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

/// A neighbour whose picture is the square that the model sees.
fn prepared((image, caption): (Image, TextTokens)) -> NeighbourCondition {
    NeighbourCondition { image: Some(image), caption: Some(caption), is_prepared: true }
}

/// What a search found.
#[derive(Default)]
struct References {
    /// What the caller is told.
    told: NeighboursFound,
    /// The images as the base model sees them, in the same order.
    images: Vec<Image>,
}

async fn search_for(
    search: Option<Search>,
    reader: Option<Reader>,
    fields: &Fields,
    stages: &Stages,
    context: Context,
) -> Result<References, Status> {
    let Some(Search { request, refuse, detail }) = search else { return Ok(References::default()) };
    let answer = stages.retrieve(context, request, |field| fields.retrieval(field)).await?;
    if refuse && answer.nothing_matched {
        return Err(nothing_matched(&answer.knowledge_base).into());
    }
    let mut told = NeighboursFound {
        neighbours: answer.neighbours,
        knowledge_base: answer.knowledge_base,
        epoch: answer.epoch,
        nothing_matched: answer.nothing_matched,
        unmatched_words: answer.unmatched_words,
        misspelt_words: answer.misspelt_words,
    };
    let images = images::of_neighbours(&mut told, reader, detail).await?;
    Ok(References { told, images })
}

/// What is told of the caller's own reference of that number.
fn own_reference((caption, number): (&String, u32)) -> Neighbour {
    Neighbour { id: format!("reference-{number}"), caption: caption.clone(), ..Neighbour::default() }
}

/// It does not say what the text names: messages are logged.
fn nothing_matched(knowledge_base: &str) -> Refusal {
    Refusal::not_found(format!(
        "nothing in the knowledge base {knowledge_base:?} matches; set retrieval.query to other words, or retrieval.no_match to draw \
         without reference images"
    ))
}

async fn timed<T>(work: impl Future<Output = Result<T, Status>>) -> Result<(T, f64), Status> {
    let begun = Instant::now();
    Ok((work.await?, begun.elapsed().as_secs_f64()))
}
