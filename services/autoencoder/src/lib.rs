//! The autoencoder service: between pictures and the latents that some diffusion models work on (Rombach et al., 2022).
//!
//! The decoder ends the base stage of such a model; the encoder begins it where a request starts from a picture.

mod coder;
mod convert;
mod grpc;
mod settings;

use std::sync::Arc;

use reverie_engine::ModelError;
use reverie_packages::package::LatentScale;
use reverie_packages::{Bundle, PackageError, Role};
use reverie_proto::autoencoder::v1::autoencoder_service_server::{AutoencoderServiceServer, SERVICE_NAME};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};
use reverie_stage::lanes;

pub use settings::Settings;

use crate::coder::{Coder, Extents};
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
    // What the base model draws. A service that was given its own packages alone does not know it.
    let base = bundle.manifest_of(&packages.denoiser, Role::Denoiser).await.ok();
    let side = base.and_then(|base| base.diffusion).map(|facts| facts.image_size);
    let settings = settings.clone();
    lanes::load(move || {
        let LatentScale { channels, downscale, .. } = decoder.latent()?;
        let picture = side.map(|side| [1, 3, side, side]);
        let latent = side.map(|side| [1, channels, side / downscale, side / downscale]);
        let typical = |shape: Option<[usize; 4]>, output: Option<[usize; 4]>| {
            let (shape, output) = shape.zip(output)?;
            Some(Extents { shape, output })
        };
        let decoder = Coder::load(&decoder, ("latent", "picture"), typical(latent, picture), &settings)?;
        let load_encoder =
            |encoder| Coder::load(&encoder, ("picture", "latent"), typical(picture, latent), &settings);
        let encoder = encoder.map(load_encoder).transpose()?;
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
