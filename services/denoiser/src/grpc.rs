//! The gRPC face: convert, encode the neighbours, submit, answer.

use std::mem;
use std::sync::Arc;

use futures::stream::BoxStream;
use reverie_denoising::serving::{answers, picture, step_kind, submit_status};
use reverie_denoising::{SchedulerHandle, Trajectory};
use reverie_imaging::pictures::Rgb;
use reverie_inference::package::WithoutText;
use reverie_proto::denoiser::v1::denoise_response::Event;
use reverie_proto::denoiser::v1::denoiser_service_server::DenoiserService;
use reverie_proto::denoiser::v1::{
    DenoiseCompleted, DenoiseRequest, DenoiseResponse, GetModelRequest, GetModelResponse,
};
use reverie_proto::tensor::v1::Latent;
use reverie_proto::tensors::{self, EncodedText};
use reverie_service_kit::{Context, Permit, Refusal};
use tonic::{Request, Response, Status};

use crate::base_model::{Conditions, Text};
use crate::convert::{self, Job};
use crate::facts::{Facts, Frame};
use crate::neighbour_encoder::NeighbourEncoder;

pub(crate) struct Denoiser {
    facts: Arc<Facts>,
    neighbours: Arc<Option<NeighbourEncoder>>,
    scheduler: SchedulerHandle<Conditions>,
}

impl Denoiser {
    pub(crate) fn new(
        facts: Facts,
        neighbours: Option<NeighbourEncoder>,
        scheduler: SchedulerHandle<Conditions>,
    ) -> Self {
        Self { facts: Arc::new(facts), neighbours: Arc::new(neighbours), scheduler }
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
        let panicked = |_| Status::from(Refusal::internal("the denoiser panicked"));
        let permit = Permit::of(&request);
        let prepared = async {
            let checked = Arc::clone(&facts);
            let check = tokio::task::spawn_blocking(move || convert::job(request.get_ref(), &checked));
            let mut job = check.await.map_err(panicked)??;
            let pictures = job.decode(facts.neighbour_reader).await?;
            let encode = tokio::task::spawn_blocking(move || {
                // The place is held as long as the work runs, whoever waits for it.
                let _permit = permit;
                let encoder = neighbours.as_ref().as_ref();
                conditions(&mut job, &pictures, &facts, encoder).map(|conditions| (job, conditions))
            });
            encode.await.map_err(panicked)?
        };
        let (job, conditions) = context.within("encoding the neighbours", prepared).await?;

        let kinds =
            (0..job.sampler.evaluations()).map(|step| step_kind(job.plan.step(step).kind()).into()).collect();
        let events = self
            .scheduler
            .submit(Trajectory {
                elements: job.frame.elements(),
                has_variance: self.facts.diffusion.learned_variance.is_some(),
                sampler: job.sampler,
                plan: job.plan,
                noise: job.noise,
                initial: job.start.sample,
                conditions: Arc::new(conditions),
                deadline: context.deadline(),
            })
            .map_err(submit_status)?;

        let model = Some(self.facts.identity.clone());
        let guidance = Some(job.guidance.into());
        let (facts, Frame { size, sample }) = (Arc::clone(&self.facts), job.frame);
        let stream = answers(
            events,
            |progress| DenoiseResponse { event: Some(Event::Progress(progress)) },
            move |x| match &facts.diffusion.latent {
                None => Ok((Some(picture(&x, size.width, size.height)?), None)),
                Some(latent) => {
                    let values = Some(tensors::from_f32(&sample, &x));
                    Ok((None, Some(Latent { values, decoder_digest: latent.decoder.clone() })))
                }
            },
            move |drawn| {
                let (image, latent) = drawn.sample;
                DenoiseResponse {
                    event: Some(Event::Completed(DenoiseCompleted {
                        image,
                        latent,
                        step_kinds: kinds,
                        timings: Some(drawn.timings),
                        model,
                        guidance,
                    })),
                }
            },
        );
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        Ok(Response::new(self.facts.as_ref().into()))
    }
}

/// Encodes the neighbours, lays their features side by side, and takes from the job what the model sees. Blocks.
fn conditions(
    job: &mut Job,
    pictures: &[Rgb],
    facts: &Facts,
    encoder: Option<&NeighbourEncoder>,
) -> Result<Conditions, Status> {
    let mut features = vec![Vec::new(); facts.features.len()];
    for (picture, caption) in pictures.iter().zip(&job.captions) {
        let Some(encoder) = encoder else { continue };
        let encoded = encoder.encode(picture, caption).map_err(Refusal::internal)?;
        for (all, one) in features.iter_mut().zip(encoded.iter()) {
            all.extend_from_slice(one);
        }
    }
    let has_neighbours = !job.captions.is_empty();
    if !has_neighbours && !facts.has_neighbours_after_text() {
        // The graph takes at least one; it will be hidden.
        for (all, feature) in features.iter_mut().zip(&facts.features) {
            all.resize(feature.shape.iter().product(), 0.0);
        }
    }
    let max_tokens = facts.text.max_tokens;
    let seen = |text: &mut EncodedText| Text {
        mask: text.mask(max_tokens),
        tokens: mem::take(&mut text.tokens),
        pooled: mem::take(&mut text.pooled),
    };
    let text = seen(&mut job.text);
    let negative_text = match (&mut job.negative_text, facts.text.without) {
        // One row a step, which has the text.
        _ if facts.guidance.is_some() => Text { tokens: Vec::new(), mask: Vec::new(), pooled: Vec::new() },
        (Some(negative), _) => seen(negative),
        (None, WithoutText::Zeros) => Text {
            tokens: vec![0.0; text.tokens.len()],
            mask: text.mask.clone(),
            pooled: vec![0.0; text.pooled.len()],
        },
        (None, _) => Text { mask: vec![0.0; max_tokens], ..text.clone() },
    };
    Ok(Conditions {
        frame: job.frame,
        text,
        negative_text,
        neighbours: job.captions.len().max(1),
        has_neighbours,
        features,
        guidance: facts.guidance.map(|told| job.guidance.told(told)).unwrap_or_default(),
        painted_into: mem::take(&mut job.start.painted_into),
    })
}
