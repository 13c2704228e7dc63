//! The denoiser service: noise and conditions to the base image.
//!
//! A request becomes a trajectory on the lane of the base model (`reverie-engine`). Its neighbours are encoded first, on a lane of
//! their own, or taken from the cache.

mod base_model;
mod convert;
mod estimates;
mod facts;
mod grpc;
mod guidance;
mod neighbour_encoder;
mod patches;
mod settings;
mod start;

use std::sync::Arc;

use reverie_engine::{Lane, ModelError};
use reverie_packages::{Bundle, Role};
use reverie_proto::denoiser::v1::denoiser_service_server::{DenoiserServiceServer, SERVICE_NAME};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};
use reverie_stage::lanes;

pub use settings::Settings;

use crate::base_model::BaseModel;
use crate::facts::Facts;
use crate::neighbour_encoder::NeighbourEncoder;

/// Loads the models, on a thread that may block. What was read of them is dropped: ONNX Runtime has its own copy.
async fn load(settings: &Settings) -> Result<grpc::Denoiser, ModelError> {
    let bundle = Bundle::open(&settings.inference.bundle).await?;
    let packages = &bundle.manifest.packages;
    let base = bundle.package(&packages.denoiser, Role::Denoiser).await?;
    let mut facts = Facts::of(&base)?;
    facts.bundle_digest = bundle.digest().await;
    let encoder = match (&facts.neighbours, &packages.neighbour_encoder) {
        (None, _) => None,
        (Some(_), Some(named)) => Some(bundle.package(named, Role::NeighbourEncoder).await?),
        (Some(_), None) => {
            let why = "it takes neighbours, and the bundle has no neighbour_encoder";
            return Err(base.wrong(why.to_owned()).into());
        }
    };
    let settings = settings.clone();
    lanes::load(move || {
        let inference = &settings.inference;
        let neighbours = match (&encoder, &facts.neighbours) {
            (Some(package), Some(condition)) => {
                Some(NeighbourEncoder::load(package, condition, &facts, &settings)?)
            }
            _ => None,
        };
        facts.neighbour_reader = neighbours.as_ref().map(NeighbourEncoder::reader);
        let facts = Arc::new(facts);
        let models = BaseModel::open_all(&base, &facts, inference)?;
        let lane = Lane::of_package(&base, models, &settings.lane, inference)?;
        Ok(grpc::Denoiser::new(facts, neighbours, lane, settings.progress.max_events))
    })
    .await
}

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let service = load(&settings).await.map_err(RunError::prepare("the denoiser's models"))?;
    let lanes = service.lanes();
    lanes.check_settings(&settings.lane).map_err(RunError::prepare("the denoiser's models"))?;
    let mut server = Server::new(
        "denoiser",
        &[SERVICE_NAME],
        Standing::Stage,
        &settings.common.server,
        settings.lane.max_jobs,
    )
    .await;
    server.routes().add_service(
        DenoiserServiceServer::new(service)
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
    );
    let served = server.serve(listener, shutdown, async || lanes.check()).await;
    lanes.end().await;
    served
}
