//! The gRPC face: convert, encode the neighbours, submit, answer.

use std::mem;
use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{BoxStream, StreamExt as _};
use reverie_engine::Lane;
use reverie_engine::trajectory::{Estimates, Trajectory};
use reverie_proto::denoiser::v1::denoise_response::Event;
use reverie_proto::denoiser::v1::denoiser_service_server::DenoiserService;
use reverie_proto::denoiser::v1::{
    DenoiseCompleted, DenoiseRequest, DenoiseResponse, GetModelRequest, GetModelResponse, PredictRequest,
    PredictResponse,
};
use reverie_proto::tensor::v1::Latent;
use reverie_proto::tensors;
use reverie_service_kit::{Context, Permit, Violations};
use reverie_stage::answers::{answers, picture, step_kind};
use reverie_stage::lanes::{self, Lanes};
use reverie_stage::text::Text;
use tonic::{Request, Response, Status};

use crate::base_model::{BaseModel, Conditions};
use crate::convert::{self, Job};
use crate::facts::{Facts, Frame};
use crate::neighbour_encoder::{EncodeError, Features, NeighbourEncoder};
use crate::{estimates, start};

pub(crate) struct Denoiser {
    facts: Arc<Facts>,
    described: GetModelResponse,
    base: Lane<BaseModel>,
    neighbours: Option<NeighbourEncoder>,
    progress_events: usize,
}

impl Denoiser {
    pub(crate) fn new(
        facts: Arc<Facts>,
        neighbours: Option<NeighbourEncoder>,
        base: Lane<BaseModel>,
        progress_events: usize,
    ) -> Self {
        let described = facts.describe();
        Self { facts, described, base, neighbours, progress_events }
    }

    pub(crate) fn lanes(&self) -> Lanes {
        let base = Lanes::default().and(&self.base);
        self.neighbours.iter().fold(base, |lanes, encoder| lanes.and(encoder.lane()))
    }

    /// Encodes the neighbours of a job and decodes the image that it starts from.
    async fn prepare(&self, job: &mut Job, context: Context) -> Result<Vec<Features>, Status> {
        let encoder = self.neighbours.as_ref();
        let encode = encoder.map(|encoder| {
            join_all(job.neighbours.iter().map(|neighbour| encoder.encode(neighbour, context)))
        });
        let encoded = match encode {
            Some(encode) => encode.await,
            None => Vec::new(),
        };
        let mut violations = Violations::new();
        let mut features = Vec::with_capacity(encoded.len());
        for (index, encoded) in encoded.into_iter().enumerate() {
            match encoded {
                Ok(one) => features.push(one),
                Err(error) => match error.as_ref() {
                    EncodeError::Image(error) => violations.add(convert::picture_field(index), error),
                    EncodeError::Run(error) => return Err(lanes::run_status(error, context)),
                },
            }
        }
        if let Err(error) = job.start.decode(job.frame.size).await {
            violations.add(start::field(&error), error);
        }
        violations.into_result()?;
        Ok(features)
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
        let permit = Permit::of(&request);
        let afterwards = permit.without_message();
        let prepared = async {
            let mut job = permit.run_blocking(move || convert::job(request.get_ref(), &facts)).await?;
            let features = self.prepare(&mut job, context).await?;
            Ok((job, features))
        };
        let (mut job, features) = context.within("encoding the neighbours", prepared).await?;

        let kinds =
            (0..job.sampler.evaluations()).map(|step| step_kind(job.plan.step(step).kind()).into()).collect();
        let conditions = Arc::new(conditions(&mut job, &features, &self.facts));
        let trajectory = Trajectory {
            elements: job.frame.elements(),
            has_variance: self.facts.diffusion.learned_variance.is_some(),
            sampler: job.sampler,
            plan: job.plan,
            noise: job.noise,
            initial: job.start.sample,
            conditions,
        };
        let (estimates, latest) = job.estimates.map(Estimates::new).unzip();
        let events = trajectory
            .submit_with(&self.base, lanes::call(context), self.progress_events, estimates)
            .map_err(|error| lanes::submit_status(&error, context))?;

        let model = Some(self.facts.identity.clone());
        let guidance = Some(job.guidance.into());
        let (facts, Frame { size, sample }) = (Arc::clone(&self.facts), job.frame);
        let stream = answers(
            events,
            (context, afterwards.clone()),
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
        Ok(Response::new(match latest {
            None => stream.boxed(),
            Some(latest) => estimates::between(stream, latest, size, afterwards).boxed(),
        }))
    }

    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let context = Context::of(&request);
        let facts = Arc::clone(&self.facts);
        let checked =
            Permit::of(&request).run_blocking(move || convert::prediction(request.get_ref(), &facts));
        let (left, weight) = context.within("predicting", checked).await?;
        let prediction = lanes::predict(&self.base, left, weight, context);
        Ok(Response::new(PredictResponse { prediction }))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        Ok(Response::new(self.described.clone()))
    }
}

/// Lays the neighbours' features side by side, and takes from the job what the model sees.
fn conditions(job: &mut Job, neighbours: &[Features], facts: &Facts) -> Conditions {
    let mut features = vec![Vec::new(); facts.features.len()];
    for neighbour in neighbours {
        for (all, one) in features.iter_mut().zip(neighbour.iter()) {
            all.extend_from_slice(one);
        }
    }
    if neighbours.is_empty() && !facts.has_neighbours_after_text() {
        // The graph takes at least one; it will be hidden.
        for (all, feature) in features.iter_mut().zip(&facts.features) {
            all.resize(feature.shape.iter().product(), 0.0);
        }
    }
    let mut texts = mem::take(&mut job.texts);
    if facts.guidance.is_some() {
        // One row a step, which has the text.
        texts.without = Text::default();
    }
    Conditions {
        frame: job.frame,
        texts,
        neighbours: neighbours.len().max(1),
        has_neighbours: !neighbours.is_empty(),
        features,
        guidance: facts.guidance.map(|told| job.guidance.told(told)).unwrap_or_default(),
        painted_into: mem::take(&mut job.start.painted_into),
    }
}
