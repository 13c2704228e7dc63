//! The encoder service: prompts and pictures to embeddings.
//!
//! Three models: the text encoder (tokens that denoisers attend to) and the joint text and image encoders (vectors for
//! search). Each is one graph on a blocking thread; encoded texts are remembered by their content.

mod convert;
mod grpc;
mod image_embedder;
mod settings;
mod text_model;

use std::sync::Arc;

use reverie_inference::{Bundle, Model, ModelError, Role, Tokenizer};
use reverie_proto::encoder::v1::encoder_service_server::{EncoderServiceServer, SERVICE_NAME};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Admission, Listener, RunError, Server, Shutdown};

pub use settings::Settings;

use crate::image_embedder::ImageEmbedder;
use crate::text_model::TextModel;

/// The models of the service.
pub(crate) struct Encoders {
    pub(crate) text: TextModel,
    pub(crate) joint_text: TextModel,
    pub(crate) joint_image: ImageEmbedder,
}

impl Encoders {
    async fn load(settings: &Settings) -> Result<Self, ModelError> {
        let bundle = Bundle::open(&settings.inference.bundle).await?;
        let packages = &bundle.manifest.packages;
        let text = bundle.package(&packages.text_encoder, Role::TextEncoder).await?;
        let joint_text = bundle.package(&packages.joint_text, Role::JointText).await?;
        let joint_image = bundle.package(&packages.joint_image, Role::JointImage).await?;
        let load = |package| Model::load(package, &settings.inference);
        Ok(Self {
            text: TextModel::new(
                &text,
                Tokenizer::load(&text)?,
                load(&text)?,
                "text_tokens",
                settings.limits.cached_texts,
            )?,
            joint_text: TextModel::new(
                &joint_text,
                Tokenizer::load(&joint_text)?,
                load(&joint_text)?,
                "embedding",
                settings.limits.cached_texts,
            )?,
            joint_image: ImageEmbedder::new(&joint_image, load(&joint_image)?)?,
        })
    }
}

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let encoders = Encoders::load(&settings).await.map_err(RunError::prepare("the encoder's models"))?;
    let service = grpc::Encoder::new(Arc::new(encoders), Admission::new(settings.limits.max_in_flight));
    let mut server = Server::new("encoder", &[SERVICE_NAME], &settings.server).await;
    server.routes().add_service(
        EncoderServiceServer::new(service)
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
    );
    // The models are loaded by now and a failed run leaves them as they were.
    server.serve(listener, shutdown, || async { Ok(()) }).await
}
