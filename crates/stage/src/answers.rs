//! The answers of a service that draws: progress, then the finished sample.

use futures::stream::{Stream, StreamExt as _};
use reverie_diffusion::guidance::StepKind;
use reverie_engine::trajectory::{Event, Finished, Progress};
use reverie_imaging::pictures;
use reverie_proto::diffusion::v1 as wire;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::settings::{SettingsError, at_least_one};
use reverie_service_kit::{Context, Permit, Refusal};
use serde::Deserialize;
use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::lanes;

/// What a service that draws tells while it does, for one that has this in `[progress]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgressSettings {
    /// Progress messages that a slow reader may lag behind before some are left out, at least 1.
    pub max_events: usize,
}

impl ProgressSettings {
    /// Refuses values that are out of range.
    pub fn validate(self) -> Result<(), SettingsError> {
        at_least_one("progress.max_events", self.max_events)
    }
}

/// The kind of a step for answers.
pub fn step_kind(kind: StepKind) -> wire::StepKind {
    match kind {
        StepKind::Conditional => wire::StepKind::Conditional,
        StepKind::TextEnhanced => wire::StepKind::TextEnhanced,
        StepKind::NeighbourEnhanced => wire::StepKind::NeighbourEnhanced,
        StepKind::Weighted => wire::StepKind::Weighted,
        StepKind::Joint => wire::StepKind::Joint,
    }
}

/// A finished sample for answers: what `finish` made of it.
#[derive(Debug)]
pub struct Drawn<T> {
    /// The picture, or the latent.
    pub sample: T,
    /// Where the time went.
    pub timings: wire::StageTimings,
}

/// The answers of one trajectory: `progress` makes one of each step, `completed` of what `finish` made of the finished
/// sample on a thread that may block, with the `permit` of the call. Dropping the stream cancels the trajectory.
pub fn answers<R, T, C>(
    events: Receiver<Event>,
    (context, permit): (Context, Permit),
    progress: fn(wire::StepProgress) -> R,
    finish: impl FnOnce(Vec<f32>) -> Result<T, Refusal> + Send + 'static,
    completed: C,
) -> impl Stream<Item = Result<R, Status>> + Send + 'static
where
    R: Send + 'static,
    T: Send + 'static,
    C: FnOnce(Drawn<T>) -> R + Send + 'static,
{
    let mut last = Some((finish, completed));
    ReceiverStream::new(events).filter_map(move |event| {
        let last = if matches!(event, Event::Progress(_)) { None } else { last.take() };
        let permit = permit.clone();
        async move {
            match event {
                Event::Progress(step) => Some(Ok(progress(progress_message(step)))),
                Event::Finished(Finished { x, timings }) => {
                    let (finish, completed) = last?;
                    let sample = permit.run_blocking(move || Ok(finish(x)?)).await;
                    let timings = lanes::timings(&timings);
                    Some(sample.map(|sample| completed(Drawn { sample, timings })))
                }
                Event::Failed(failure) => Some(Err(lanes::failure_status(&failure, context))),
            }
        }
    })
}

/// A finished sample as a picture of `width` x `height` pixels.
pub fn picture(x: &[f32], width: u32, height: u32) -> Result<Image, Refusal> {
    pictures::from_planes(x, width, height).map(pictures::raw).map_err(Refusal::internal)
}

fn progress_message(progress: Progress) -> wire::StepProgress {
    wire::StepProgress { step: progress.step as u32, steps: progress.steps as u32 }
}
