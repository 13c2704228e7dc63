//! The gRPC face: admit, convert, run the cascade, stream what it tells.

use std::time::Duration;

use futures::stream::BoxStream;
use reverie_proto::generation::v1::generation_service_server::GenerationService;
use reverie_proto::generation::v1::{GenerateRequest, GenerateResponse};
use reverie_service_kit::{Admission, Context, Refusal};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use crate::position::Position;
use crate::settings::{Defaults, Settings};
use crate::stages::Stages;
use crate::{cascade, convert};

/// Events a caller may lag behind before the cascade waits for it.
const EVENTS: usize = 256;

pub(crate) struct Generation {
    stages: Stages,
    admission: Admission,
    longest: Duration,
    defaults: Defaults,
}

impl Generation {
    pub(crate) fn new(stages: Stages, settings: &Settings) -> Self {
        Self {
            stages,
            admission: Admission::new(settings.limits.max_in_flight),
            longest: Duration::from_secs(settings.limits.max_request_seconds),
            defaults: settings.defaults.clone(),
        }
    }
}

#[tonic::async_trait]
impl GenerationService for Generation {
    type GenerateStream = BoxStream<'static, Result<GenerateResponse, Status>>;

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let permit = self.admission.admit()?;
        let context = Context::of(&request).capped(self.longest, "limits.max_request_seconds");
        let models = context.within("asking for the models", self.stages.models(context)).await?;
        let defaults = self.defaults.clone();
        let convert =
            tokio::task::spawn_blocking(move || convert::run(request.into_inner(), models, &defaults));
        let (mut run, images) = convert.await.map_err(Refusal::internal)??;
        context.within("decoding the request's images", images.decode(&mut run)).await?;

        let (news, events) = mpsc::channel(EVENTS);
        let (failed, failure) = tokio::sync::oneshot::channel();
        let stages = self.stages.clone();
        let work = async move {
            let _permit = permit;
            let position = Position::default();
            let draw = cascade::draw(run, &stages, context, &news, &position);
            let draw = context.within("drawing", draw);
            tokio::select! {
                // Dropping the calls to the stages cancels their work.
                () = news.closed() => tracing::info!("the caller is gone; the picture is given up"),
                outcome = draw => {
                    if let Err(mut status) = outcome {
                        // Whichever stage's timer was the first: the caller hears whose limit it was, and of its picture.
                        if status.code() == Code::DeadlineExceeded {
                            status = context.out_of_time(&position);
                        }
                        tracing::warn!(code = ?status.code(), message = status.message(), "no picture");
                        let _ = failed.send(status);
                    }
                }
            }
        };
        tokio::spawn(work.in_current_span());

        let events = ReceiverStream::new(events).map(|event| Ok(GenerateResponse { event: Some(event) }));
        // The failure, if there is one, is the status that ends the stream.
        let end = futures::stream::once(failure);
        let end = futures::StreamExt::filter_map(end, async |failure| failure.ok().map(Err));
        Ok(Response::new(Box::pin(events.chain(end))))
    }
}
