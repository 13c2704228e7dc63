//! The denoiser service: noise and conditions to the base picture.
//!
//! A request becomes a trajectory of the step scheduler (`reverie-denoising`); the model's rows run side by side on a pool
//! of ONNX Runtime sessions. Neighbours are encoded once a request, or taken from the cache.

mod base_model;
mod convert;
mod facts;
mod grpc;
mod guidance;
mod neighbour_encoder;
mod patches;
mod settings;
mod start;

use reverie_denoising::Scheduler;
use reverie_inference::{Bundle, Role};
use reverie_proto::denoiser::v1::denoiser_service_server::{DenoiserServiceServer, SERVICE_NAME};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};

pub use settings::Settings;

use crate::base_model::BaseModel;
use crate::facts::Facts;
use crate::neighbour_encoder::NeighbourEncoder;

/// Loads the models. What is read of them is let go of: ONNX Runtime has its own copy.
async fn load(
    settings: &Settings,
) -> Result<(Facts, Option<NeighbourEncoder>, BaseModel), reverie_inference::ModelError> {
    let bundle = Bundle::open(&settings.inference.bundle).await?;
    let packages = &bundle.manifest.packages;
    let base = bundle.package(&packages.denoiser, Role::Denoiser).await?;
    let mut facts = Facts::of(&base)?;
    let neighbours = match &facts.neighbours {
        None => None,
        Some(neighbours) => {
            let named = packages.neighbour_encoder.as_ref();
            let missing =
                || base.wrong("it takes neighbours, and the bundle has no neighbour_encoder".to_owned());
            let encoder = bundle.package(named.ok_or_else(missing)?, Role::NeighbourEncoder).await?;
            Some(NeighbourEncoder::load(&encoder, neighbours, &facts, settings)?)
        }
    };
    facts.neighbour_reader = neighbours.as_ref().map(NeighbourEncoder::reader);
    let model = BaseModel::load(&base, &facts, settings)?;
    Ok((facts, neighbours, model))
}

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let (facts, neighbours, model) =
        load(&settings).await.map_err(RunError::prepare("the denoiser's models"))?;
    let scheduler =
        Scheduler::spawn(model, settings.scheduler).map_err(RunError::prepare("the scheduler"))?;

    let service = grpc::Denoiser::new(facts, neighbours, scheduler.clone());
    let mut server = Server::new(
        "denoiser",
        &[SERVICE_NAME],
        Standing::Stage,
        &settings.server,
        settings.scheduler.max_in_flight(),
    )
    .await;
    server.routes().add_service(
        DenoiserServiceServer::new(service)
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
    );
    let served = server.serve(listener, shutdown, async || scheduler.check()).await;
    scheduler.end().await;
    served
}
