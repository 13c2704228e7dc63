//! Stages that the tests play: each can be right, fail, panic, lie, hang, or end without an image.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use reverie_proto::denoiser::v1::denoise_response::Event as DenoiseEvent;
use reverie_proto::denoiser::v1::denoiser_service_server::DenoiserService;
use reverie_proto::denoiser::v1::{self as denoiser, DenoiseRequest, DenoiseResponse};
use reverie_proto::diffusion::v1 as diffusion;
use reverie_proto::encoder::v1::encoder_service_server::EncoderService;
use reverie_proto::encoder::v1::{self as encoder};
use reverie_proto::superresolution::v1::super_resolution_service_server::SuperResolutionService;
use reverie_proto::superresolution::v1::upscale_response::Event as UpscaleEvent;
use reverie_proto::superresolution::v1::{self as superresolution, UpscaleRequest, UpscaleResponse};
use reverie_proto::tensor::v1::{Image, ImageFormat, TextTokens};
use reverie_service_kit::Refusal;
use tonic::{Code, Request, Response, Status};

/// Sides of the images: the base model's, then each level's.
pub(crate) const SIDES: [u32; 4] = [8, 16, 32, 64];
pub(crate) const STEPS: u32 = 3;

/// What a stage does when it is asked to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    Right,
    Fails(Code),
    Panics,
    /// Gives an image of a size that it should not have.
    LiesAboutSize,
    /// Gives bytes that are no image of the size they are said to have.
    GivesNoImage,
    EndsEarly,
    /// Reports a step, and nothing more.
    Hangs,
    /// Has another model than the call is for, from now on.
    IsReplaced,
}

/// How the stages behave, and what they saw.
#[derive(Clone)]
pub(crate) struct Stages {
    pub(crate) encoder: Conduct,
    pub(crate) base: Conduct,
    /// Of the second level.
    pub(crate) level: Conduct,
    /// Of the second level, asked about options.
    pub(crate) check: Conduct,
    /// The seed of the only images with which `base` and `level` are not right; none for all.
    pub(crate) odd_seed: Option<u64>,
    /// What the base model and each level say that an image takes, seconds; none if they cannot tell.
    pub(crate) predicted: Option<[f64; 4]>,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// Images that stages were asked to draw.
    pub(crate) calls: AtomicUsize,
    /// Of those, images that estimates were asked for of.
    pub(crate) with_estimates: AtomicUsize,
    /// Calls of the encoder.
    pub(crate) encodings: AtomicUsize,
    /// How often the models were replaced.
    pub(crate) bundle: AtomicUsize,
    /// Stages that hang now.
    pub(crate) hanging: AtomicUsize,
    /// A stage that hangs was given up.
    pub(crate) is_given_up: AtomicBool,
}

/// Notes that a stage's work was dropped.
struct GivenUp(Arc<Seen>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
        self.0.is_given_up.store(true, Ordering::SeqCst);
    }
}

/// An image whose every byte tells its seed.
fn image(side: u32, seed: u64) -> Image {
    let (width, height) = (side, side);
    let data = vec![seed as u8; 3 * (side * side) as usize].into();
    Image { format: ImageFormat::Rgb8.into(), width, height, data }
}

/// All stages compute on two cores.
fn prediction(seconds: f64) -> diffusion::Prediction {
    diffusion::Prediction { seconds, resource: 7, units: 2, unit_seconds: seconds, others_unit_seconds: 0.0 }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Stages {
    /// The answers of a stage that draws an image of `side`.
    fn draw<T: Send + 'static>(
        &self,
        conduct: Conduct,
        seed: u64,
        side: u32,
        progress: impl Fn(diffusion::StepProgress) -> T,
        completed: impl FnOnce(Image) -> T,
    ) -> Result<Response<Answers<T>>, Status> {
        self.seen.calls.fetch_add(1, Ordering::SeqCst);
        let steps = (1..=STEPS).map(|step| Ok(progress(diffusion::StepProgress { step, steps: STEPS })));
        let steps: Vec<_> = steps.collect();
        let is_odd = self.odd_seed.is_none_or(|odd| odd == seed);
        let drawn = match if is_odd { conduct } else { Conduct::Right } {
            Conduct::Right => image(side, seed),
            Conduct::LiesAboutSize => image(side + 1, seed),
            Conduct::GivesNoImage => Image { data: vec![1, 2, 3].into(), ..image(side, seed) },
            Conduct::IsReplaced if self.seen.bundle.load(Ordering::SeqCst) > 0 => image(side, seed),
            Conduct::IsReplaced => {
                self.seen.bundle.fetch_add(1, Ordering::SeqCst);
                return Err(Refusal::model_changed("as ordered").into());
            }
            Conduct::Fails(code) => return Err(Status::new(code, "as ordered")),
            Conduct::Panics => panic!("as ordered"),
            Conduct::EndsEarly => return Ok(Response::new(Box::pin(stream::iter(steps)))),
            Conduct::Hangs => {
                self.seen.hanging.fetch_add(1, Ordering::SeqCst);
                let given_up = GivenUp(Arc::clone(&self.seen));
                let forever = stream::once(async move {
                    let _given_up = given_up;
                    std::future::pending().await
                });
                let first = stream::iter(steps.into_iter().take(1));
                return Ok(Response::new(Box::pin(first.chain(forever))));
            }
        };
        let last = Ok(completed(drawn));
        Ok(Response::new(Box::pin(stream::iter(steps.into_iter().chain([last])))))
    }
}

#[tonic::async_trait]
impl EncoderService for Stages {
    async fn encode_text(
        &self,
        request: Request<encoder::EncodeTextRequest>,
    ) -> Result<Response<encoder::EncodeTextResponse>, Status> {
        self.seen.encodings.fetch_add(1, Ordering::SeqCst);
        let count = match self.encoder {
            Conduct::Right => request.get_ref().texts.len(),
            Conduct::LiesAboutSize => request.get_ref().texts.len() - 1,
            Conduct::Fails(code) => return Err(Status::new(code, "as ordered")),
            other => unreachable!("{other:?} is nothing for an encoder"),
        };
        let texts = vec![TextTokens::default(); count];
        Ok(Response::new(encoder::EncodeTextResponse { texts }))
    }

    async fn embed_text(
        &self,
        _: Request<encoder::EmbedTextRequest>,
    ) -> Result<Response<encoder::EmbedTextResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn embed_image(
        &self,
        _: Request<encoder::EmbedImageRequest>,
    ) -> Result<Response<encoder::EmbedImageResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn get_models(
        &self,
        _: Request<encoder::GetModelsRequest>,
    ) -> Result<Response<encoder::GetModelsResponse>, Status> {
        let text_encoder_digest = "encoder".to_owned();
        Ok(Response::new(encoder::GetModelsResponse { text_encoder_digest, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl DenoiserService for Stages {
    type DenoiseStream = Answers<DenoiseResponse>;

    async fn denoise(
        &self,
        request: Request<DenoiseRequest>,
    ) -> Result<Response<Self::DenoiseStream>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"), "every call has a deadline");
        let seed = request.get_ref().seed;
        let interval = request.get_ref().estimate_interval_milliseconds;
        let estimates = (interval > 0).then(|| {
            self.seen.with_estimates.fetch_add(1, Ordering::SeqCst);
            assert_eq!(interval, 500, "two per second");
            (1..STEPS).map(move |step| {
                let image = Some(image(SIDES[0], 200 + u64::from(step)));
                let estimate = denoiser::Estimate { step, steps: STEPS, image };
                Ok(DenoiseResponse { event: Some(DenoiseEvent::Estimate(estimate)) })
            })
        });
        let drawn = self.draw(
            self.base,
            seed,
            SIDES[0],
            |step| DenoiseResponse { event: Some(DenoiseEvent::Progress(step)) },
            |image| {
                let step_kinds = vec![diffusion::StepKind::Conditional.into(); STEPS as usize];
                let image = Some(image);
                let completed = denoiser::DenoiseCompleted { image, step_kinds, ..Default::default() };
                DenoiseResponse { event: Some(DenoiseEvent::Completed(completed)) }
            },
        );
        let Some(estimates) = estimates else { return drawn };
        // Between the steps and the image, each after the one before was seen.
        let spaced = stream::iter(estimates).then(async |estimate| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            estimate
        });
        let last = stream::once(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
        let spaced = spaced.chain(last.filter_map(async |()| None));
        Ok(Response::new(Box::pin(spaced.chain(drawn?.into_inner()))))
    }

    async fn predict(
        &self,
        _: Request<denoiser::PredictRequest>,
    ) -> Result<Response<denoiser::PredictResponse>, Status> {
        let Some(predicted) = self.predicted else {
            return Err(Status::unimplemented("a service of an earlier version"));
        };
        Ok(Response::new(denoiser::PredictResponse { prediction: Some(prediction(predicted[0])) }))
    }

    async fn get_model(
        &self,
        _: Request<denoiser::GetModelRequest>,
    ) -> Result<Response<denoiser::GetModelResponse>, Status> {
        Ok(Response::new(denoiser::GetModelResponse {
            image_size: SIDES[0],
            model: Some(diffusion::ModelIdentity {
                digest: format!("base-{}", self.seen.bundle.load(Ordering::SeqCst)),
                ..Default::default()
            }),
            text_encoder_digest: "encoder".to_owned(),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl SuperResolutionService for Stages {
    type UpscaleStream = Answers<UpscaleResponse>;

    async fn upscale(
        &self,
        request: Request<UpscaleRequest>,
    ) -> Result<Response<Self::UpscaleStream>, Status> {
        let given = request.get_ref().image.clone().unwrap_or_default();
        let Some(level) = SIDES[..3].iter().position(|side| *side == given.width) else {
            let mut violations = reverie_service_kit::Violations::new();
            violations.add("image", format!("is {} pixels wide, which no level starts from", given.width));
            return Err(violations.into_result().unwrap_err());
        };
        self.draw(
            if level == 1 { self.level } else { Conduct::Right },
            request.get_ref().seed,
            SIDES[level + 1],
            |step| UpscaleResponse { event: Some(UpscaleEvent::Progress(step)) },
            |image| {
                let completed =
                    superresolution::UpscaleCompleted { image: Some(image), ..Default::default() };
                UpscaleResponse { event: Some(UpscaleEvent::Completed(completed)) }
            },
        )
    }

    async fn check_options(
        &self,
        request: Request<superresolution::CheckOptionsRequest>,
    ) -> Result<Response<superresolution::CheckOptionsResponse>, Status> {
        let is_second = request.get_ref().low_resolution_size == SIDES[1];
        match self.check {
            Conduct::Fails(Code::InvalidArgument) if is_second => {
                let mut violations = reverie_service_kit::Violations::new();
                violations.add("sampling.sampler", "does not fit this model");
                Err(violations.into_result().unwrap_err())
            }
            Conduct::Fails(code) if is_second => Err(Status::new(code, "as ordered")),
            _ => {
                let low_side = request.get_ref().low_resolution_size;
                let level = SIDES.iter().position(|side| *side == low_side).unwrap();
                let prediction = self.predicted.map(|predicted| prediction(predicted[level + 1]));
                Ok(Response::new(superresolution::CheckOptionsResponse { prediction }))
            }
        }
    }

    async fn list_levels(
        &self,
        _: Request<superresolution::ListLevelsRequest>,
    ) -> Result<Response<superresolution::ListLevelsResponse>, Status> {
        let level = |sides: &[u32]| superresolution::Level {
            low_resolution_size: sides[0],
            image_size: sides[1],
            ..Default::default()
        };
        let levels = SIDES.windows(2).map(level).collect();
        Ok(Response::new(superresolution::ListLevelsResponse { levels, ..Default::default() }))
    }
}
