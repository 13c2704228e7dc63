//! A pipeline over stages that the tests play.

use std::sync::Arc;
use std::time::Duration;

use reverie_pipeline::Settings;
use reverie_proto::denoiser::v1::denoiser_service_server::{self, DenoiserServiceServer};
use reverie_proto::encoder::v1::encoder_service_server::{self, EncoderServiceServer};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_proto::generation::v1::{Completed, GenerateRequest, GeneratedImage, SuperResolutionOptions};
use reverie_proto::superresolution::v1::super_resolution_service_server::{
    self, SuperResolutionServiceServer,
};
use reverie_service_kit::settings::{self, ServiceSettings as _, Sources};
use reverie_service_kit::{Address, Context, Listener, Server, Shutdown, Standing, client};
use tonic::{Status, Streaming};

use crate::stages::{Conduct, Seen, Stages};

/// One image of all levels, with previews.
pub(crate) fn request() -> GenerateRequest {
    // The last level is left to its defaults.
    let options = SuperResolutionOptions { noise_level: Some(0.5), ..Default::default() };
    GenerateRequest {
        prompt: "a".to_owned(),
        previews: true,
        super_resolution: vec![options; 2],
        ..Default::default()
    }
}

/// A pipeline over the stages, until it is dropped.
pub(crate) struct Mesh {
    pipeline: Address,
    pub(crate) seen: Arc<Seen>,
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
    pub(crate) async fn start(change: impl FnOnce(&mut Stages)) -> Self {
        Self::start_with(change, |_| ()).await
    }

    /// The same, with other settings of the pipeline.
    pub(crate) async fn start_with(
        change: impl FnOnce(&mut Stages),
        set: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut stages = Stages {
            encoder: Conduct::Right,
            base: Conduct::Right,
            level: Conduct::Right,
            check: Conduct::Right,
            odd_seed: None,
            predicted: None,
            seen: Arc::default(),
        };
        change(&mut stages);
        let (mut settings, shutdown) = (settings(), Shutdown::new());
        set(&mut settings);
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

    pub(crate) fn client(&self) -> GenerationServiceClient<client::Channel> {
        GenerationServiceClient::new(client::Upstream::new("pipeline", &self.pipeline).channel())
    }

    pub(crate) async fn ask_for(
        &self,
        request: GenerateRequest,
        timeout: Duration,
    ) -> Result<Streaming<Answer>, Status> {
        let request = Context::with_timeout(timeout).outgoing(request);
        Ok(self.client().generate(request).await?.into_inner())
    }

    pub(crate) async fn ask(&self, timeout: Duration) -> Result<Streaming<Answer>, Status> {
        self.ask_for(request(), timeout).await
    }

    /// All that a request is told, and the status that it ends with.
    pub(crate) async fn draw(&self, timeout: Duration) -> (Vec<Event>, Result<(), Status>) {
        self.draw_for(request(), timeout).await
    }

    pub(crate) async fn draw_for(
        &self,
        request: GenerateRequest,
        timeout: Duration,
    ) -> (Vec<Event>, Result<(), Status>) {
        let mut told = Vec::new();
        let outcome = async {
            let mut answers = self.ask_for(request, timeout).await?;
            while let Some(answer) = answers.message().await? {
                told.extend(answer.event);
            }
            Ok(())
        };
        let outcome = outcome.await;
        (told, outcome)
    }
}

pub(crate) fn images(told: &[Event]) -> Vec<&GeneratedImage> {
    let images = told.iter().filter_map(|event| match event {
        Event::Image(image) => Some(image),
        _ => None,
    });
    images.collect()
}

/// The last event, of which there is one.
pub(crate) fn completed(told: &[Event]) -> &Completed {
    let completed = |event: &&Event| matches!(event, Event::Completed(_));
    assert_eq!(told.iter().filter(completed).count(), 1, "{told:?}");
    let Some(Event::Completed(completed)) = told.last() else { panic!("{told:?}") };
    completed
}

type Answer = reverie_proto::generation::v1::GenerateResponse;

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
