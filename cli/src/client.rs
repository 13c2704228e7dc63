//! One call to the pipeline, from the request to everything that came of it.

use std::io::ErrorKind;
use std::time::Duration;

use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_proto::generation::v1::{
    Completed, GenerateRequest, GeneratedImage, GetCapabilitiesRequest, GetCapabilitiesResponse,
    NeighboursFound, Preview, Progress, Started,
};
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::client::{Channel, MAX_INTERNAL_MESSAGE, Upstream};
use reverie_service_kit::refusal::is_callers_deadline;
use reverie_service_kit::{Address, Context, Refusal, causes, is_caused_by};
use tonic::{Response, Status};

use crate::progress::stage_name;

/// Everything that came of a request.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first event.
    pub started: Started,
    /// The neighbours, if there are any.
    pub neighbours: NeighboursFound,
    /// The smaller levels, if they were asked for; those of several images mixed.
    pub previews: Vec<Preview>,
    /// The first image.
    pub image: Image,
    /// All images, by index.
    pub images: Vec<GeneratedImage>,
    /// The last event.
    pub completed: Completed,
}

/// Sends `request` to the pipeline at `address` and gathers what it tells; `watch` sees every event first.
pub async fn ask(
    address: &Address,
    request: GenerateRequest,
    timeout: Duration,
    mut watch: impl FnMut(&Event),
) -> Result<Outcome, Status> {
    let stage = Upstream::new("pipeline", address);
    let mut client = GenerationServiceClient::new(stage.channel())
        .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
        .max_encoding_message_size(MAX_INTERNAL_MESSAGE);
    let context = Context::with_timeout(timeout);
    let (mut outcome, mut is_completed) = (Outcome::default(), false);
    let blame = |status: Status| blame(&stage, context, status);
    let mut reached = None;
    let answer = async {
        let mut news = client.generate(context.outgoing(request)).await.map_err(blame)?.into_inner();
        while let Some(message) = news.message().await.map_err(blame)? {
            let Some(event) = message.event else { continue };
            watch(&event);
            match event {
                // Again if the models were replaced: the image is begun anew.
                Event::Started(started) => outcome = Outcome { started, ..Outcome::default() },
                Event::Neighbours(neighbours) => outcome.neighbours = neighbours,
                // An estimate between two steps is for those who watch.
                Event::Preview(preview) if preview.step > 0 => {}
                Event::Preview(preview) => outcome.previews.push(preview),
                Event::Image(image) => outcome.images.push(image),
                Event::Completed(completed) => (outcome.completed, is_completed) = (completed, true),
                Event::Progress(progress) => reached = Some(progress),
            }
        }
        Ok::<_, Status>(())
    };
    let Some(deadline) = context.deadline() else {
        answer.await?;
        return completed(outcome, is_completed);
    };
    match tokio::time::timeout_at(deadline.into(), answer).await {
        Ok(answered) => answered?,
        // The pipeline, which gives up a little earlier, says nothing any more.
        Err(_) => {
            return Err(match reached {
                None => context.out_of_time("before there was any news"),
                Some(reached) => {
                    let Progress { step, steps, .. } = reached;
                    let stage = stage_name(reached.stage(), reached.level);
                    context.out_of_time(format!("in stage {stage}, after {step} of {steps} steps"))
                }
            });
        }
    }
    completed(outcome, is_completed)
}

/// Asks the pipeline at `address` what it can do.
pub async fn capabilities(address: &Address, timeout: Duration) -> Result<GetCapabilitiesResponse, Status> {
    call(address, timeout, async |channel, context| {
        GenerationServiceClient::new(channel)
            .get_capabilities(context.outgoing(GetCapabilitiesRequest {}))
            .await
    })
    .await
}

/// Makes one call to the pipeline at `address`.
pub(crate) async fn call<T>(
    address: &Address,
    timeout: Duration,
    call: impl AsyncFnOnce(Channel, Context) -> Result<Response<T>, Status>,
) -> Result<T, Status> {
    let stage = Upstream::new("pipeline", address);
    let context = Context::with_timeout(timeout);
    let answer = context.within("waiting for the answer", call(stage.channel(), context)).await;
    answer.map(Response::into_inner).map_err(|status| blame(&stage, context, status))
}

/// Why a call failed. A refusal of the pipeline's own has details and says all; anything else is a call that broke.
fn blame(stage: &Upstream, context: Context, status: Status) -> Status {
    match status.details() {
        [] if is_unreachable(&status) => {
            let why = stage.blame(context, status);
            let hint =
                "start one there with `reverie serve`, or leave --server out to start one for this command";
            Refusal::unavailable(format!("no mesh can be reached: {}; {hint}", why.message())).into()
        }
        [] => stage.blame(context, status),
        _ => status,
    }
}

/// Whether a call ended because nothing answers at its address. One that answers, and with which no TLS can be spoken, says why.
fn is_unreachable(status: &Status) -> bool {
    let answers = causes(status)
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof));
    !answers && is_caused_by::<tonic::ConnectError>(status)
}

/// A stream that just ends has no picture, whichever pipeline it comes from.
fn completed(mut outcome: Outcome, is_completed: bool) -> Result<Outcome, Status> {
    outcome.images.sort_by_key(|image| image.index);
    // An earlier pipeline does not say how many there are: there is one.
    let expected = outcome.started.seeds.len().max(1);
    let drawn = |image: &&GeneratedImage| image.image.as_ref().is_some_and(|image| !image.data.is_empty());
    let count = outcome.images.iter().filter(drawn).count();
    match outcome.images.first() {
        Some(GeneratedImage { image: Some(image), .. }) if is_completed && count == expected => {
            outcome.image = image.clone();
            Ok(outcome)
        }
        _ if expected > 1 => {
            let told = format!("the pipeline ended with {count} of {expected} pictures");
            Err(Refusal::internal(told).into())
        }
        _ => Err(Refusal::internal("the pipeline ended without a picture").into()),
    }
}

/// Why there is no picture, for whoever set the `timeout`.
pub fn explain(status: &Status, timeout: Duration) -> String {
    let told = status.message();
    if is_callers_deadline(status) {
        format!("no picture within {} s (--timeout): {told}", timeout.as_secs())
    } else {
        told.to_owned()
    }
}
