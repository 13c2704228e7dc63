//! The cascade over stages that the test plays: each can be right, fail, panic, lie, hang, or end without an image.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test, and stages that fail as they are told to")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use reverie_pipeline::Settings;
use reverie_proto::denoiser::v1::denoise_response::Event as DenoiseEvent;
use reverie_proto::denoiser::v1::denoiser_service_server::{self, DenoiserService, DenoiserServiceServer};
use reverie_proto::denoiser::v1::{self as denoiser, DenoiseRequest, DenoiseResponse};
use reverie_proto::diffusion::v1 as diffusion;
use reverie_proto::encoder::v1::encoder_service_server::{self, EncoderService, EncoderServiceServer};
use reverie_proto::encoder::v1::{self as encoder};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_proto::generation::v1::{GenerateRequest, Stage, SuperResolutionOptions};
use reverie_proto::superresolution::v1::super_resolution_service_server::{
    self, SuperResolutionService, SuperResolutionServiceServer,
};
use reverie_proto::superresolution::v1::upscale_response::Event as UpscaleEvent;
use reverie_proto::superresolution::v1::{self as superresolution, UpscaleRequest, UpscaleResponse};
use reverie_proto::tensor::v1::{Image, ImageFormat, TextTokens};
use reverie_service_kit::settings::{self, ServiceSettings as _, Sources};
use reverie_service_kit::{Address, Context, Listener, Refusal, Server, Shutdown, Standing, client};
use tonic::{Code, Request, Response, Status, Streaming};

/// Sides of the images: the base model's, then each level's.
const SIDES: [u32; 4] = [8, 16, 32, 64];
const STEPS: u32 = 3;

/// What a stage does when it is asked to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
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
}

/// How the stages behave, and what they saw.
#[derive(Clone)]
struct Stages {
    encoder: Conduct,
    base: Conduct,
    /// Of the second level.
    level: Conduct,
    /// Of the second level, asked about options.
    check: Conduct,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    calls: AtomicUsize,
    /// A stage that hangs was given up.
    is_given_up: AtomicBool,
}

/// Notes that a stage's work was dropped.
struct GivenUp(Arc<Seen>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.is_given_up.store(true, Ordering::SeqCst);
    }
}

fn image(side: u32) -> Image {
    let (width, height) = (side, side);
    let data = vec![100; 3 * (side * side) as usize].into();
    Image { format: ImageFormat::Rgb8.into(), width, height, data }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Stages {
    /// The answers of a stage that draws an image of `side`.
    fn draw<T: Send + 'static>(
        &self,
        conduct: Conduct,
        side: u32,
        progress: impl Fn(diffusion::StepProgress) -> T,
        completed: impl FnOnce(Image) -> T,
    ) -> Result<Response<Answers<T>>, Status> {
        self.seen.calls.fetch_add(1, Ordering::SeqCst);
        let steps = (1..=STEPS).map(|step| Ok(progress(diffusion::StepProgress { step, steps: STEPS })));
        let steps: Vec<_> = steps.collect();
        let drawn = match conduct {
            Conduct::Right => image(side),
            Conduct::LiesAboutSize => image(side + 1),
            Conduct::GivesNoImage => Image { data: vec![1, 2, 3].into(), ..image(side) },
            Conduct::Fails(code) => return Err(Status::new(code, "as ordered")),
            Conduct::Panics => panic!("as ordered"),
            Conduct::EndsEarly => return Ok(Response::new(Box::pin(stream::iter(steps)))),
            Conduct::Hangs => {
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
        self.draw(
            self.base,
            SIDES[0],
            |step| DenoiseResponse { event: Some(DenoiseEvent::Progress(step)) },
            |image| {
                let step_kinds = vec![diffusion::StepKind::Conditional.into(); STEPS as usize];
                let image = Some(image);
                let completed = denoiser::DenoiseCompleted { image, step_kinds, ..Default::default() };
                DenoiseResponse { event: Some(DenoiseEvent::Completed(completed)) }
            },
        )
    }

    async fn predict(
        &self,
        _: Request<denoiser::PredictRequest>,
    ) -> Result<Response<denoiser::PredictResponse>, Status> {
        Err(Status::unimplemented("a service of an earlier version"))
    }

    async fn get_model(
        &self,
        _: Request<denoiser::GetModelRequest>,
    ) -> Result<Response<denoiser::GetModelResponse>, Status> {
        Ok(Response::new(denoiser::GetModelResponse {
            image_size: SIDES[0],
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
            _ => Ok(Response::new(superresolution::CheckOptionsResponse::default())),
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

/// A pipeline over the stages, until it is dropped.
struct Mesh {
    pipeline: Address,
    seen: Arc<Seen>,
    shutdown: Shutdown,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn settings() -> Settings {
    let mut settings: Settings = settings::load(&Sources::default()).unwrap();
    settings.stages.retrieval = None;
    settings.stages.autoencoder = None;
    settings
}

impl Mesh {
    /// A mesh in which all stages are right, but for what `change` says.
    async fn start(change: impl FnOnce(&mut Stages)) -> Self {
        let mut stages = Stages {
            encoder: Conduct::Right,
            base: Conduct::Right,
            level: Conduct::Right,
            check: Conduct::Right,
            seen: Arc::default(),
        };
        change(&mut stages);
        let (mut settings, shutdown) = (settings(), Shutdown::new());
        macro_rules! serve {
            ($name:literal, $contract:expr, $service:expr) => {{
                let (listener, address) = Listener::memory();
                let mut server =
                    Server::new($name, &[$contract], Standing::Stage, &settings.common().server, 64).await;
                server.routes().add_service($service);
                let shutdown = shutdown.clone();
                tokio::spawn(server.serve(listener, shutdown, async || Ok(())));
                address.into()
            }};
        }
        settings.stages.encoder = serve!(
            "encoder",
            encoder_service_server::SERVICE_NAME,
            EncoderServiceServer::new(stages.clone())
        );
        settings.stages.denoiser = serve!(
            "denoiser",
            denoiser_service_server::SERVICE_NAME,
            DenoiserServiceServer::new(stages.clone())
        );
        settings.stages.super_resolution = vec![serve!(
            "super-resolution",
            super_resolution_service_server::SERVICE_NAME,
            SuperResolutionServiceServer::new(stages.clone())
        )];
        let (listener, pipeline) = Listener::memory();
        tokio::spawn(reverie_pipeline::run(settings, listener, shutdown.clone()));
        Self { pipeline, seen: stages.seen, shutdown }
    }

    async fn ask(&self, timeout: Duration) -> Result<Streaming<Answer>, Status> {
        let stage = client::Upstream::new("pipeline", &self.pipeline);
        let mut client = GenerationServiceClient::new(stage.channel());
        // The last level is left to its defaults.
        let options = SuperResolutionOptions { noise_level: Some(0.5), ..Default::default() };
        let request = GenerateRequest {
            prompt: "a".to_owned(),
            previews: true,
            super_resolution: vec![options; 2],
            ..Default::default()
        };
        Ok(client.generate(Context::with_timeout(timeout).outgoing(request)).await?.into_inner())
    }

    /// All that a request is told, and the status that it ends with.
    async fn draw(&self, timeout: Duration) -> (Vec<Event>, Result<(), Status>) {
        let mut told = Vec::new();
        let outcome = async {
            let mut answers = self.ask(timeout).await?;
            while let Some(answer) = answers.message().await? {
                told.extend(answer.event);
            }
            Ok(())
        };
        let outcome = outcome.await;
        (told, outcome)
    }
}

type Answer = reverie_proto::generation::v1::GenerateResponse;

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_cascade_has_as_many_levels_as_there_are() {
    let (told, outcome) = Mesh::start(|_| ()).await.draw(PATIENCE).await;
    outcome.unwrap();
    let Some(Event::Completed(completed)) = told.last() else { panic!("{told:?}") };
    let stages: Vec<_> = completed.stages.iter().map(|report| (report.stage(), report.level)).collect();
    let level = Stage::SuperResolution;
    assert_eq!(stages, [(Stage::Encode, 0), (Stage::Base, 0), (level, 1), (level, 2), (level, 3)]);
    let previews: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            Event::Preview(preview) => Some((preview.level, preview.image.as_ref()?.width)),
            _ => None,
        })
        .collect();
    assert_eq!(previews, [(0, 8), (1, 16), (2, 32)]);
    let image = told.iter().find_map(|event| match event {
        Event::Image(image) => image.image.clone(),
        _ => None,
    });
    assert_eq!(image.unwrap().width, 64);
}

/// Whatever a stage does, the caller hears of it, once and at the end, and nothing of it is the caller's fault.
#[tokio::test]
async fn what_a_stage_does_wrong_ends_the_image_with_a_reason() {
    use Conduct::{EndsEarly, Fails, GivesNoImage, LiesAboutSize, Panics};
    let expected = [
        (Fails(Code::Internal), Code::Internal),
        (Fails(Code::Unavailable), Code::Unavailable),
        (Fails(Code::ResourceExhausted), Code::ResourceExhausted),
        (Fails(Code::InvalidArgument), Code::Internal),
        (Fails(Code::Unknown), Code::Unavailable),
        (EndsEarly, Code::Unavailable),
        (LiesAboutSize, Code::Internal),
        (GivesNoImage, Code::Internal),
        (Panics, Code::Internal),
    ];
    for (conduct, code) in expected {
        for stage in ["base", "level"] {
            let mesh = Mesh::start(|stages| match stage {
                "base" => stages.base = conduct,
                _ => stages.level = conduct,
            });
            let (told, outcome) = mesh.await.draw(PATIENCE).await;
            let status = outcome.expect_err(stage);
            let codes = if conduct == Panics { [code, Code::Unavailable] } else { [code; 2] };
            assert!(codes.contains(&status.code()), "{stage} {conduct:?}: {status}");
            assert!(!status.message().is_empty(), "{stage} {conduct:?}");
            let is_whole = told.iter().any(|event| matches!(event, Event::Completed(_) | Event::Image(_)));
            assert!(!is_whole, "{stage} {conduct:?}: {told:?}");
        }
    }
}

#[tokio::test]
async fn options_that_a_level_refuses_are_refused_before_anything_is_drawn() {
    let mesh = Mesh::start(|stages| stages.check = Conduct::Fails(Code::InvalidArgument)).await;
    let (_, outcome) = mesh.draw(PATIENCE).await;
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("super_resolution[1].sampling.sampler"), "{status}");
    assert_eq!(mesh.seen.calls.load(Ordering::SeqCst), 0, "nothing was drawn");
}

#[tokio::test]
async fn a_level_of_an_earlier_version_checks_its_options_when_it_upscales() {
    let mesh = Mesh::start(|stages| stages.check = Conduct::Fails(Code::Unimplemented)).await;
    mesh.draw(PATIENCE).await.1.unwrap();
}

#[tokio::test]
async fn an_encoder_that_loses_a_text_is_no_fault_of_the_caller() {
    for (conduct, code) in [
        (Conduct::LiesAboutSize, Code::Internal),
        (Conduct::Fails(Code::Unavailable), Code::Unavailable),
        (Conduct::Fails(Code::Internal), Code::Internal),
    ] {
        let (_, outcome) = Mesh::start(|stages| stages.encoder = conduct).await.draw(PATIENCE).await;
        assert_eq!(outcome.unwrap_err().code(), code, "{conduct:?}");
    }
}

#[tokio::test]
async fn a_stage_that_hangs_is_given_up_at_the_deadline() {
    let mesh = Mesh::start(|stages| stages.level = Conduct::Hangs).await;
    let (_, outcome) = mesh.draw(Duration::from_secs(4)).await;
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(
        !status.details().is_empty(),
        "it is the pipeline's answer, not the client's own timer: {status}"
    );
    assert!(status.message().contains("in stage super-resolution-2, after 1 of 3 steps"), "{status}");
    while !mesh.seen.is_given_up.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_work_of_the_stage() {
    let mesh = Mesh::start(|stages| stages.base = Conduct::Hangs).await;
    let mut answers = mesh.ask(PATIENCE).await.unwrap();
    while mesh.seen.calls.load(Ordering::SeqCst) == 0 {
        answers.message().await.unwrap();
    }
    assert!(!mesh.seen.is_given_up.load(Ordering::SeqCst));
    drop(answers);
    while !mesh.seen.is_given_up.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_that_reads_slowly_gets_everything_that_matters() {
    let mesh = Mesh::start(|_| ()).await;
    let mut answers = mesh.ask(PATIENCE).await.unwrap();
    let mut told = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        told.extend(answer.event);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(told[0], Event::Started(_)) && matches!(told.last(), Some(Event::Completed(_))));
    assert_eq!(told.iter().filter(|event| matches!(event, Event::Image(_))).count(), 1);
    assert_eq!(told.iter().filter(|event| matches!(event, Event::Preview(_))).count(), 3);
}

#[tokio::test]
async fn a_refusal_of_a_stage_keeps_its_reason() {
    let refused: Status = Refusal::overloaded("full").into();
    let mesh = Mesh::start(|stages| stages.base = Conduct::Fails(refused.code())).await;
    let (_, outcome) = mesh.draw(PATIENCE).await;
    let status = outcome.unwrap_err();
    assert!(status.message().contains("denoiser") && status.message().contains("as ordered"), "{status}");
}
