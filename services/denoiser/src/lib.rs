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
use reverie_service_kit::{Listener, RunError, Server, Shutdown};

pub use settings::Settings;

use crate::base_model::BaseModel;
use crate::facts::Facts;
use crate::neighbour_encoder::NeighbourEncoder;

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let models = |error| RunError::prepare("the denoiser's models")(error);
    let bundle = Bundle::open(&settings.inference.bundle).await.map_err(models)?;
    let packages = &bundle.manifest.packages;
    let base = bundle.package(&packages.denoiser, Role::Denoiser).await.map_err(models)?;
    let mut facts = Facts::of(&base).map_err(models)?;
    let neighbours = match &facts.neighbours {
        None => None,
        Some(neighbours) => {
            let named = packages.neighbour_encoder.as_ref();
            let missing =
                || base.wrong("it takes neighbours, and the bundle has no neighbour_encoder".to_owned());
            let named = named.ok_or_else(missing).map_err(models)?;
            let encoder = bundle.package(named, Role::NeighbourEncoder).await.map_err(models)?;
            Some(NeighbourEncoder::load(&encoder, neighbours, &facts, &settings).map_err(models)?)
        }
    };
    facts.crops_neighbours = neighbours.as_ref().is_some_and(NeighbourEncoder::crops);
    let model = BaseModel::load(&base, &facts, &settings).map_err(models)?;
    let scheduler =
        Scheduler::spawn(model, settings.scheduler).map_err(RunError::prepare("the scheduler"))?;

    let service = grpc::Denoiser::new(facts, neighbours, scheduler.clone());
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
