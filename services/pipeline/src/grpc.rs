//! The gRPC face: admit, convert, run the cascade, stream what it tells.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt as _};
use reverie_access::{InFlight, Visitor};
use reverie_proto::generation::v1::generation_service_server::GenerationService;
use reverie_proto::generation::v1::{
    GenerateRequest, GenerateResponse, GetCapabilitiesRequest, GetCapabilitiesResponse, Stage,
};
use reverie_service_kit::refusal::is_for_other_models;
use reverie_service_kit::telemetry::gen_ai;
use reverie_service_kit::{Context, Permit, Refusal};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use crate::access;
use crate::admission::{Admission, Booking};
use crate::callers::Callers;
use crate::convert::Run;
use crate::images::Undecoded;
use crate::measure::Measured;
use crate::news::{self, News, Told};
use crate::pace::Pace;
use crate::position::Position;
use crate::settings::{Defaults, Limits, Settings};
use crate::stages::{Models, Stages};
use crate::{capabilities, cascade, convert};

/// Events a caller may lag behind before the cascade waits for it.
const EVENTS: usize = 256;
/// How often an image is planned: each time with the models that are there then.
const PLANS: usize = 3;

#[derive(Clone)]
pub(crate) struct Generation {
    stages: Stages,
    longest: Duration,
    limits: Limits,
    defaults: Defaults,
    pace: Arc<Pace>,
    admission: Arc<Admission>,
    callers: Callers,
    /// What this process calls itself where it asks stages for work.
    origin: u64,
}

impl Generation {
    pub(crate) fn new(stages: Stages, settings: &Settings) -> Self {
        Self {
            stages,
            longest: Duration::from_secs(settings.limits.max_request_seconds),
            limits: settings.limits.clone(),
            defaults: settings.defaults.clone(),
            pace: Arc::default(),
            admission: Arc::default(),
            callers: settings.callers.clone(),
            origin: rand::random::<u64>().max(1),
        }
    }
}

impl Generation {
    /// Checks a request against the models that are there now, books what it needs, charges it to who asks, and decodes its images. The
    /// request then names the knowledge base that it means.
    async fn prepare(
        &self,
        request: &mut GenerateRequest,
        context: Context,
        permit: &Permit,
        visitor: Option<&Visitor>,
    ) -> Result<(Run, Booking, Option<InFlight>), Status> {
        let context = context.in_time()?;
        let models = context.within("asking for the models", self.stages.models(context)).await?;
        access::resolve_memory(visitor, models.can_search(), request)?;
        let (mut run, images, booking) = self.book(models, request, context, permit).await?;
        let model = run.base.model.as_ref().map_or("", |model| &model.name);
        gen_ai::image(model, run.seeds[0], &run.prompt);
        let held = visitor.map(|visitor| charge(visitor, &run, &booking)).transpose()?;
        context.within("decoding the request's images", images.decode(&mut run)).await?;
        Ok((run, booking, held))
    }

    /// Checks a request against `models`, or those that took their place meanwhile, and books what its images need.
    async fn book(
        &self,
        mut models: Models,
        request: &GenerateRequest,
        context: Context,
        permit: &Permit,
    ) -> Result<(Run, Undecoded, Booking), Status> {
        let mut plans = 1;
        loop {
            let (run, images) = self.plan(models, request.clone(), permit).await?;
            let predicting =
                cascade::predict(&run, images.initial.as_ref(), &self.stages, context, &self.pace);
            let needs = match context.within("asking what the image takes", predicting).await {
                Err(status) if plans < PLANS && is_for_other_models(&status) => {
                    models = self.other_models(&run.digests, status, context).await?;
                    plans += 1;
                    continue;
                }
                needs => needs?,
            };
            let of_levels = needs.iter().filter(|need| need.place.stage == Stage::SuperResolution).count();
            let least = if run.may_degrade { needs.len() - of_levels } else { needs.len() };
            let booking = self.admission.admit(context, needs, run.seeds.len(), least)?;
            return Ok((run, images, booking));
        }
    }

    /// Checks a request against `models`, and takes a place in flight for each of its images.
    async fn plan(
        &self,
        models: Models,
        request: GenerateRequest,
        permit: &Permit,
    ) -> Result<(Run, Undecoded), Status> {
        let (defaults, limits) = (self.defaults.clone(), self.limits.clone());
        let checked = permit.clone().run_blocking(move || convert::run(request, models, &defaults, &limits));
        let (run, images) = checked.await?;
        permit.hold(run.seeds.len())?;
        Ok((run, images))
    }

    /// The models that are there now, where a call was refused because those of the plan, with these digests, are gone; `refused` if
    /// they are still the same.
    async fn other_models(
        &self,
        planned: &[String],
        refused: Status,
        context: Context,
    ) -> Result<Models, Status> {
        let models = self.stages.models_of_all(context).await?;
        if models.digests() == planned {
            return Err(refused);
        }
        tracing::info!(message = refused.message(), "the models were replaced; the image is planned anew");
        Ok(models)
    }

    /// Draws the images. If the models that they were planned with are gone, they are planned and booked anew with those that are there,
    /// and all drawn from the beginning with the same seeds: an image is never of two bundles, nor are the images of a request.
    async fn draw(
        &self,
        (mut run, mut booking): (Run, Booking),
        request: GenerateRequest,
        context: Context,
        permit: &Permit,
        news: &News,
    ) -> Result<(), Status> {
        let mut plans = 1;
        loop {
            let (digests, seed) = (run.digests.clone(), run.seeds[0]);
            let position = Position::new(booking);
            let drawn = cascade::draw(run, &self.stages, context, news, &position, (&self.pace, permit));
            let status = match drawn.await {
                Err(status) if plans < PLANS && is_for_other_models(&status) => status,
                outcome => return outcome,
            };
            let asking = self.other_models(&digests, status, context);
            let models = context.within("asking for the models", asking).await?;
            plans += 1;
            // What was booked for the images that are given up is free.
            drop(position);
            let request = GenerateRequest { seed: Some(seed), ..request.clone() };
            let images;
            (run, images, booking) = self.book(models, &request, context, permit).await?;
            context.within("decoding the request's images", images.decode(&mut run)).await?;
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
        let measured = Measured::begin();
        let permit = Permit::of(&request);
        let context = self.callers.context(&request).capped(self.longest, "limits.max_request_seconds");
        let context = context.planned_by(self.origin);
        let visitor = access::visitor(&request);
        let mut request = request.into_inner();
        let prepared = self.prepare(&mut request, context, &permit, visitor.as_ref()).await;
        let (run, booking, held) = match prepared {
            Ok(prepared) => prepared,
            Err(status) => {
                measured.end(Err(&status));
                return Err(status);
            }
        };
        let (news, events) = news::channel(EVENTS, Duration::from_millis(self.limits.answer_milliseconds));
        let generation = self.clone();
        let work = async move {
            let outcome = generation.draw((run, booking), request, context, &permit, &news).await;
            measured.end(outcome.as_ref().copied());
            drop(held);
            outcome
        };
        Ok(Response::new(Box::pin(answer(events, work))))
    }

    async fn get_capabilities(
        &self,
        request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<GetCapabilitiesResponse>, Status> {
        let context = Context::of(&request).capped(self.longest, "limits.max_request_seconds");
        let facts =
            async { tokio::try_join!(self.stages.models(context), self.stages.knowledge_bases(context)) };
        let (models, knowledge_bases) = context.within("asking for the models", facts).await?;
        let knowledge_bases = access::visible(&request, knowledge_bases);
        let told = capabilities::of(models, knowledge_bases, &self.limits, &self.defaults);
        Ok(Response::new(told))
    }
}

/// Charges `visitor` what the images of a request will take, and counts them as in flight.
fn charge(visitor: &Visitor, run: &Run, booking: &Booking) -> Result<InFlight, Refusal> {
    let (width, height) = run.image_size();
    let images = run.seeds.len();
    let pixels = images as u64 * u64::from(width) * u64::from(height);
    let held = visitor.hold(u32::try_from(images - 1).unwrap_or(u32::MAX))?;
    visitor.charge(pixels, booking.model_seconds(images))?;
    Ok(held)
}

/// The answer of a run: its events, then how `work` ended, which sends them. It is given up when the caller drops the answer.
fn answer(
    events: Told,
    work: impl Future<Output = Result<(), Status>> + Send + 'static,
) -> impl Stream<Item = Result<GenerateResponse, Status>> + Send + 'static {
    let task = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
    let events = events.map(|event| Ok(GenerateResponse { event: Some(event) }));
    let end = async {
        let outcome = task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the cascade panicked");
            Err(Refusal::internal("the pipeline panicked; its log says more").into())
        });
        let status = outcome.err()?;
        let (code, message) = (status.code(), status.message());
        if matches!(code, Code::InvalidArgument | Code::NotFound) {
            tracing::info!(?code, message, "no picture: the request is wrong");
        } else {
            tracing::warn!(?code, message, "no picture");
        }
        Some(Err(status))
    };
    events.chain(futures::stream::once(end).filter_map(std::future::ready))
}

#[cfg(test)]
mod tests {
    use reverie_proto::generation::v1::generate_response::Event;
    use reverie_proto::generation::v1::{Completed, Started};
    use reverie_service_kit::Listener;
    use reverie_service_kit::settings::{self, Sources};
    use tonic::Code;

    use super::*;

    fn channel() -> (News, Told) {
        news::channel(1, Duration::ZERO)
    }

    async fn all(
        work: impl Future<Output = Result<(), Status>> + Send + 'static,
        events: Told,
    ) -> Vec<Result<GenerateResponse, Status>> {
        answer(events, work).collect().await
    }

    #[tokio::test]
    async fn a_panic_in_the_cascade_is_the_status_that_ends_the_stream() {
        let (news, events) = channel();
        let told = all(
            async move {
                news.tell(Event::Started(Started::default())).await;
                panic!("a bug in the cascade");
            },
            events,
        )
        .await;
        assert_eq!(told.len(), 2);
        assert!(told[0].is_ok());
        assert_eq!(told[1].as_ref().unwrap_err().code(), Code::Internal);
    }

    #[tokio::test]
    async fn a_failure_ends_the_stream_and_a_success_adds_nothing() {
        let (news, events) = channel();
        let work = async move {
            let _news = news;
            Err(Refusal::unavailable("a stage is gone").into())
        };
        let told = all(work, events).await;
        assert_eq!(
            told.iter().map(|event| event.as_ref().unwrap_err().code()).collect::<Vec<_>>(),
            [Code::Unavailable]
        );
        let (news, events) = channel();
        let work = async move {
            news.tell(Event::Completed(Completed::default())).await;
            Ok(())
        };
        let told = all(work, events).await;
        assert!(matches!(&told[..], [Ok(GenerateResponse { event: Some(Event::Completed(_)) })]), "{told:?}");
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_is_told_before_any_stage_is_asked() {
        let mut settings: Settings = settings::load(&Sources::default()).unwrap();
        // Nothing answers there, or anywhere.
        settings.stages.denoiser = Listener::memory().1.into();
        let generation = Generation::new(Stages::new(&settings.stages), &settings);
        for allow_degraded in [false, true] {
            let request = GenerateRequest { prompt: "a".to_owned(), allow_degraded, ..Default::default() };
            let mut request = Request::new(request);
            request.extensions_mut().insert(Context::with_timeout(Duration::ZERO));
            let status = generation.generate(request).await.map(drop).unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
            assert!(status.message().starts_with("the caller's deadline passed"), "{status}");
        }
    }

    #[tokio::test]
    async fn a_caller_that_leaves_ends_the_work() {
        let (news, events) = channel();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let running = answer(events, async move {
            let _ = begun.send(());
            std::future::pending::<()>().await;
            drop(news);
            Ok(())
        });
        has_begun.await.unwrap();
        let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
        let (_, events) = channel();
        let kept = answer(events, async move {
            let _gone = gone;
            std::future::pending().await
        });
        drop((running, kept));
        assert!(is_gone.await.is_err(), "the work was dropped");
    }
}
