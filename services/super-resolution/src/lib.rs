//! The super-resolution service: one level of the cascade, or several.
//!
//! A level is a diffusion model that starts from noise and a smaller picture (Cascaded Diffusion Models; Imagen, section 2.4).
//! Each level has a step scheduler of its own.

mod convert;
mod grpc;
mod level;
mod settings;
mod upsample;

use reverie_denoising::SchedulerHandle;
use reverie_inference::{Bundle, ModelError, Role};
use reverie_proto::superresolution::v1::super_resolution_service_server::{
    SERVICE_NAME, SuperResolutionServiceServer,
};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};

pub use settings::Settings;

use crate::level::Level;

async fn load(settings: &Settings) -> Result<Vec<Level>, Box<dyn std::error::Error + Send + Sync>> {
    let bundle = Bundle::open(&settings.inference.bundle).await?;
    let cascade = &bundle.manifest.packages.super_resolution;
    let wanted = if settings.cascade.levels.is_empty() { cascade } else { &settings.cascade.levels };
    let mut levels = Vec::new();
    for name in wanted {
        // Noise streams are numbered by the place in the cascade, whoever serves the level.
        let place = cascade.iter().position(|known| known == name).ok_or_else(|| ModelError::Manifest {
            file: format!("{}/bundle.toml", settings.inference.bundle),
            why: format!("it has no super-resolution level {name:?}, only {}", cascade.join(", ")),
        })?;
        let package = bundle.package(name, Role::SuperResolution).await?;
        levels.push(Level::start(&package, 1 + place as u16, settings)?);
    }
    levels.sort_by_key(|level| level.facts.low_side);
    Ok(levels)
}

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let levels = load(&settings).await.map_err(RunError::prepare("the super-resolution models"))?;
    let schedulers: Vec<_> = levels.iter().map(|level| level.scheduler.clone()).collect();
    let limit = levels.len() * settings.scheduler.max_in_flight();
    let mut server =
        Server::new("super-resolution", &[SERVICE_NAME], Standing::Stage, &settings.server, limit).await;
    server.routes().add_service(
        SuperResolutionServiceServer::new(grpc::SuperResolution::new(levels))
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
    );
    let check = async || schedulers.iter().try_for_each(SchedulerHandle::check);
    let served = server.serve(listener, shutdown, check).await;
    for scheduler in &schedulers {
        scheduler.end().await;
    }
    served
}
