//! The encoder service: prompts and images to embeddings.
//!
//! The text encoder (tokens that denoisers attend to), of one model or several, and the joint text and image encoders (vectors for
//! search). Each model is one graph on a lane; encoded texts are kept by their content.

mod convert;
mod grpc;
mod image_embedder;
mod settings;
mod text_encoder;
mod text_model;

use std::sync::Arc;

use reverie_engine::ModelError;
use reverie_packages::{Bundle, Role};
use reverie_proto::encoder::v1::encoder_service_server::{EncoderServiceServer, SERVICE_NAME};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};
use reverie_stage::lanes::{self, Lanes};

pub use settings::Settings;

use crate::image_embedder::ImageEmbedder;
use crate::text_encoder::TextEncoder;
use crate::text_model::TextModel;

/// The models of the service.
pub(crate) struct Encoders {
    pub(crate) text: TextEncoder,
    /// For search; a bundle without knowledge bases needs none.
    pub(crate) joint: Option<JointEncoders>,
}

/// The two sides of the joint text-image space.
pub(crate) struct JointEncoders {
    pub(crate) text: TextModel,
    pub(crate) image: ImageEmbedder,
}

impl Encoders {
    async fn load(settings: &Settings) -> Result<Self, ModelError> {
        let bundle = Bundle::open(&settings.inference.bundle).await?;
        let packages = &bundle.manifest.packages;
        let mut texts = Vec::new();
        for name in packages.text_encoder.all() {
            texts.push(bundle.package(name, Role::TextEncoder).await?);
        }
        let joint = match (&packages.joint_text, &packages.joint_image) {
            (Some(text), Some(image)) => Some((
                bundle.package(text, Role::JointText).await?,
                bundle.package(image, Role::JointImage).await?,
            )),
            _ => None,
        };
        let settings = settings.clone();
        lanes::load(move || {
            let text = TextEncoder::load(&texts, &settings)?;
            let joint = match &joint {
                None => None,
                Some((text, image)) => Some(JointEncoders {
                    text: TextModel::load(text, &["embedding"], "queries", &settings)?,
                    image: ImageEmbedder::load(image, &settings)?,
                }),
            };
            Ok(Self { text, joint })
        })
        .await
    }

    fn lanes(&self) -> Lanes {
        let texts = self.text.models().chain(self.joint.iter().map(|joint| &joint.text));
        let lanes = texts.fold(Lanes::default(), |lanes, model| lanes.and(&model.lane));
        self.joint.iter().fold(lanes, |lanes, joint| lanes.and(&joint.image.lane))
    }
}

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let encoders = Encoders::load(&settings).await.map_err(RunError::prepare("the encoder's models"))?;
    let lanes = encoders.lanes();
    lanes.check_settings(&settings.lane).map_err(RunError::prepare("the encoder's models"))?;
    let service = grpc::Encoder::new(Arc::new(encoders));
    let mut server = Server::new(
        "encoder",
        &[SERVICE_NAME],
        Standing::Stage,
        &settings.common.server,
        settings.limits.max_in_flight,
    )
    .await;
    server.routes().add_service(
        EncoderServiceServer::new(service)
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
    );
    let served = server.serve(listener, shutdown, async || lanes.check()).await;
    lanes.end().await;
    served
}
