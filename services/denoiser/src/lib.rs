//! The denoiser service: noise and conditions to the base picture.
//!
//! A request becomes a trajectory of the step scheduler (`reverie-denoising`); the model's rows run side by side on a pool
//! of ONNX Runtime sessions. Neighbours are encoded once a request, or taken from the cache.

mod base_model;
mod convert;
mod grpc;
mod guidance;
mod neighbour_encoder;
mod settings;

use std::sync::Arc;

use reverie_denoising::Scheduler;
use reverie_inference::{Bundle, Role};
use reverie_proto::denoiser::v1::denoiser_service_server::{DenoiserServiceServer, SERVICE_NAME};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Listener, RunError, Server, Shutdown};

pub use settings::Settings;

use crate::base_model::BaseModel;
use crate::neighbour_encoder::NeighbourEncoder;

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let models = |error| RunError::prepare("the denoiser's models")(error);
    let bundle = Bundle::open(&settings.inference.bundle).await.map_err(models)?;
    let packages = &bundle.manifest.packages;
    let base = bundle.package(&packages.denoiser, Role::Denoiser).await.map_err(models)?;
    let encoder =
        bundle.package(&packages.neighbour_encoder, Role::NeighbourEncoder).await.map_err(models)?;

    let facts = convert::Facts::of(&base).map_err(models)?;
    let neighbours = NeighbourEncoder::load(&encoder, &facts, &settings).map_err(models)?;
    let model = BaseModel::load(&base, &facts, &settings).map_err(models)?;
    let scheduler =
        Scheduler::spawn(model, settings.scheduler).map_err(RunError::prepare("the scheduler"))?;

    let service = grpc::Denoiser::new(facts, Arc::new(neighbours), scheduler.clone());
    let mut server = Server::new("denoiser", &[SERVICE_NAME], &settings.server).await;
    server.routes().add_service(
        DenoiserServiceServer::new(service)
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
    );
    let worker =
        || async { if scheduler.is_alive() { Ok(()) } else { Err("the step scheduler ended".to_owned()) } };
    let served = server.serve(listener, shutdown, worker).await;
    scheduler.end().await;
    served
}
