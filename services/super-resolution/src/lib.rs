//! The super-resolution service: one level of the cascade, or several.
//!
//! A level is a diffusion model that starts from noise and a smaller image (Cascaded Diffusion Models; Imagen, section 2.4). Each
//! level has a lane of its own.

mod convert;
mod grpc;
mod level;
mod settings;

use std::sync::Arc;

use reverie_engine::ModelError;
use reverie_packages::{Bundle, PackageError, Role};
use reverie_proto::superresolution::v1::super_resolution_service_server::{
    SERVICE_NAME, SuperResolutionServiceServer,
};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};
use reverie_stage::lanes::{self, Lanes};

pub use settings::Settings;

use crate::level::Level;

/// The levels and the digest of their bundle.
async fn load(settings: &Settings) -> Result<(Arc<[Level]>, String), ModelError> {
    let bundle = Bundle::open(&settings.inference.bundle).await?;
    let cascade = &bundle.manifest.packages.super_resolution;
    let wanted = if settings.cascade.levels.is_empty() { cascade } else { &settings.cascade.levels };
    let mut packages = Vec::new();
    for name in wanted {
        // Noise streams are numbered by the place in the cascade, whoever serves the level.
        let place = cascade.iter().position(|known| known == name).ok_or_else(|| PackageError::Manifest {
            file: format!("{}/bundle.toml", settings.inference.bundle),
            why: format!("it has no super-resolution level {name:?}, only {}", cascade.join(", ")),
        })?;
        packages.push((bundle.package(name, Role::SuperResolution).await?, 1 + place as u16));
    }
    let (settings, digest) = (settings.clone(), bundle.digest().await);
    lanes::load(move || {
        let open = |(package, stage)| Level::open(&package, stage, &settings);
        let mut levels = packages.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        levels.sort_by_key(|level| level.facts.low_side);
        Ok((levels.into(), digest))
    })
    .await
}

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let (levels, bundle_digest) =
        load(&settings).await.map_err(RunError::prepare("the super-resolution models"))?;
    let lanes = levels.iter().fold(Lanes::default(), |lanes, level| lanes.and(&level.lane));
    lanes.check_settings(&settings.lane).map_err(RunError::prepare("the super-resolution models"))?;
    let limit = levels.len().max(1).saturating_mul(settings.lane.max_jobs);
    let mut server =
        Server::new("super-resolution", &[SERVICE_NAME], Standing::Stage, &settings.common.server, limit)
            .await;
    let service = grpc::SuperResolution::new(levels, settings.progress.max_events, bundle_digest);
    server.routes().add_service(
        SuperResolutionServiceServer::new(service)
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
    );
    let served = server.serve(listener, shutdown, async || lanes.check()).await;
    lanes.end().await;
    served
}
