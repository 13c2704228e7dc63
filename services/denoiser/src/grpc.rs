//! The gRPC face: convert, encode the neighbours, submit, answer.

use std::sync::Arc;

use futures::stream::BoxStream;
use reverie_denoising::serving::{answers, step_kind, submit_status};
use reverie_denoising::{SchedulerHandle, Trajectory};
use reverie_proto::denoiser::v1::denoise_response::Event;
use reverie_proto::denoiser::v1::denoiser_service_server::DenoiserService;
use reverie_proto::denoiser::v1::{DenoiseCompleted, DenoiseRequest, DenoiseResponse};
use reverie_service_kit::{Context, Refusal};
use tonic::{Request, Response, Status};

use crate::base_model::{Conditions, Text};
use crate::convert::{self, Facts, Job};
use crate::neighbour_encoder::NeighbourEncoder;

pub(crate) struct Denoiser {
    facts: Arc<Facts>,
    neighbours: Arc<NeighbourEncoder>,
    scheduler: SchedulerHandle<Conditions>,
}

impl Denoiser {
    pub(crate) fn new(
        facts: Facts,
        neighbours: Arc<NeighbourEncoder>,
        scheduler: SchedulerHandle<Conditions>,
    ) -> Self {
        Self { facts: Arc::new(facts), neighbours, scheduler }
    }
}

#[tonic::async_trait]
impl DenoiserService for Denoiser {
    type DenoiseStream = BoxStream<'static, Result<DenoiseResponse, Status>>;

    async fn denoise(
        &self,
        request: Request<DenoiseRequest>,
    ) -> Result<Response<Self::DenoiseStream>, Status> {
        let context = Context::of(&request);
        let facts = Arc::clone(&self.facts);
        let neighbours = Arc::clone(&self.neighbours);
        let prepare = tokio::task::spawn_blocking(move || {
            let job = convert::job(request.get_ref(), &facts)?;
            conditions(&job, &facts, &neighbours).map(|conditions| (job, conditions))
        });
        let prepared =
            async { prepare.await.map_err(|_| Status::from(Refusal::internal("the denoiser panicked")))? };
        let (job, conditions) = context.within("encoding the neighbours", prepared).await?;

        let kinds =
            (0..job.sampler.evaluations()).map(|step| step_kind(job.plan.step(step).kind()).into()).collect();
        let side = self.facts.side;
        let events = self
            .scheduler
            .submit(Trajectory {
                elements: 3 * side * side,
                sampler: job.sampler,
                plan: job.plan,
                noise: job.noise,
                initial: job.initial,
                conditions: Arc::new(conditions),
                deadline: context.deadline(),
            })
            .map_err(submit_status)?;

        let model = Some(self.facts.identity.clone());
        let guidance = Some(job.guidance.into());
        let stream = answers(
            events,
            side as u32,
            |progress| DenoiseResponse { event: Some(Event::Progress(progress)) },
            move |drawn| DenoiseResponse {
                event: Some(Event::Completed(DenoiseCompleted {
                    image: Some(drawn.image),
                    step_kinds: kinds,
                    timings: Some(drawn.timings),
                    model,
                    guidance,
                })),
            },
        );
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Encodes the neighbours and lays their features side by side. Blocks.
fn conditions(job: &Job, facts: &Facts, encoder: &NeighbourEncoder) -> Result<Conditions, Status> {
    let mut features = vec![Vec::new(); facts.features.len()];
    for (picture, caption) in &job.neighbours {
        let encoded = encoder.encode(picture, caption).map_err(Refusal::internal)?;
        for (all, one) in features.iter_mut().zip(encoded.iter()) {
            all.extend_from_slice(one);
        }
    }
    let has_neighbours = !job.neighbours.is_empty();
    if !has_neighbours {
        // The graph takes at least one; it will be hidden.
        for (all, feature) in features.iter_mut().zip(&facts.features) {
            all.resize(feature.shape.iter().product(), 0.0);
        }
    }
    let max_tokens = facts.text.max_tokens;
    let text = Text { tokens: job.text.tokens.clone(), mask: job.text.mask(max_tokens) };
    let negative_text = job.negative_text.as_ref().map_or_else(
        || Text { mask: vec![0.0; max_tokens], ..text.clone() },
        |negative| Text { tokens: negative.tokens.clone(), mask: negative.mask(max_tokens) },
    );
    Ok(Conditions { text, negative_text, neighbours: job.neighbours.len().max(1), has_neighbours, features })
}
