//! The autoencoder service: between pictures and the latents that some diffusion models work on (Rombach et al., 2022).
//!
//! The decoder ends the base stage of such a model; the encoder begins it where a request starts from a picture.

mod coder;
mod convert;
mod grpc;
mod settings;

use std::sync::Arc;

use reverie_engine::ModelError;
use reverie_packages::{Bundle, PackageError, Role};
use reverie_proto::autoencoder::v1::autoencoder_service_server::{AutoencoderServiceServer, SERVICE_NAME};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};
use reverie_stage::lanes;

pub use settings::Settings;

use crate::coder::Coder;
use crate::grpc::Autoencoder;

async fn load(settings: &Settings) -> Result<Autoencoder, ModelError> {
    let location = &settings.inference.bundle;
    let bundle = Bundle::open(location).await?;
    let packages = &bundle.manifest.packages;
    let missing = || PackageError::Manifest {
        file: format!("{location}/bundle.toml"),
        why: "it has no latent_decoder, and only models that work on latents need this service".to_owned(),
    };
    let decoder = packages.latent_decoder.as_ref().ok_or_else(missing)?;
    let decoder = bundle.package(decoder, Role::LatentDecoder).await?;
    let encoder = match &packages.latent_encoder {
        Some(encoder) => Some(bundle.package(encoder, Role::LatentEncoder).await?),
        None => None,
    };
    if let Some(encoder) = &encoder
        && encoder.latent()? != decoder.latent()?
    {
        return Err(encoder
            .wrong("its [latent] is not that of the bundle's latent_decoder".to_owned())
            .into());
    }
    let settings = settings.clone();
    lanes::load(move || {
        let decoder = Coder::load(&decoder, ("latent", "picture"), &settings)?;
        let encoder =
            encoder.map(|encoder| Coder::load(&encoder, ("picture", "latent"), &settings)).transpose()?;
        Ok(Autoencoder {
            decoder: Arc::new(decoder),
            encoder: encoder.map(Arc::new),
            max_side: settings.limits.max_side,
        })
    })
    .await
}

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let service = load(&settings).await.map_err(RunError::prepare("the autoencoder's models"))?;
    let lanes = service.lanes();
    lanes.check_settings(&settings.lane).map_err(RunError::prepare("the autoencoder's models"))?;
    let mut server = Server::new(
        "autoencoder",
        &[SERVICE_NAME],
        Standing::Stage,
        &settings.common.server,
        settings.limits.max_in_flight,
    )
    .await;
    server.routes().add_service(
        AutoencoderServiceServer::new(service)
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
    );
    let served = server.serve(listener, shutdown, async || lanes.check()).await;
    lanes.end().await;
    served
}
