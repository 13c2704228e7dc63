//! The gRPC face: convert, encode on the lanes of the models, convert.

use std::sync::Arc;

use futures::future::try_join_all;
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use reverie_engine::RunError;
use reverie_proto::encoder::v1::encoder_service_server::EncoderService;
use reverie_proto::encoder::v1::{
    EmbedImageRequest, EmbedImageResponse, EmbedTextRequest, EmbedTextResponse, EncodeTextRequest,
    EncodeTextResponse, GetModelsRequest, GetModelsResponse, JointSpace,
};
use reverie_proto::tensors;
use reverie_service_kit::{Context, Permit, Refusal};
use reverie_stage::lanes;
use tonic::{Request, Response, Status};

use crate::{Encoders, JointEncoders, convert};

/// Images of one request that are laid out for the model at a time.
const IMAGES_AT_A_TIME: usize = 4;

pub(crate) struct Encoder {
    encoders: Arc<Encoders>,
}

impl Encoder {
    pub(crate) fn new(encoders: Arc<Encoders>) -> Self {
        Self { encoders }
    }

    /// Checks and tokenizes.
    async fn tokenized<T, R>(
        &self,
        request: Request<T>,
        tokenize: impl FnOnce(&Encoders, T) -> Result<R, Status> + Send + 'static,
    ) -> Result<R, Status>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let (context, permit) = (Context::of(&request), Permit::of(&request));
        let (encoders, message) = (Arc::clone(&self.encoders), request.into_inner());
        context.within("tokenizing", permit.run_blocking(move || tokenize(&encoders, message))).await
    }
}

/// What the caller of a row that has no output is told.
fn status(context: Context) -> impl Fn(Arc<RunError>) -> Status {
    move |error| lanes::run_status(&error, context)
}

fn joint(encoders: &Encoders) -> Result<&JointEncoders, Status> {
    let missing =
        || Refusal::mismatch("this bundle has no joint text-image encoders, so nothing can be searched");
    encoders.joint.as_ref().ok_or_else(|| missing().into())
}

#[tonic::async_trait]
impl EncoderService for Encoder {
    async fn encode_text(
        &self,
        request: Request<EncodeTextRequest>,
    ) -> Result<Response<EncodeTextResponse>, Status> {
        let context = Context::of(&request);
        let (expected, digest) = (&request.get_ref().encoder_digest, self.encoders.text.digest());
        if !expected.is_empty() && expected != digest {
            let why = format!("the call is for the text encoder {expected}, this one is {digest}");
            return Err(Refusal::model_changed(why).into());
        }
        let texts =
            self.tokenized(request, |encoders, message| convert::prompts(&message, &encoders.text)).await?;
        let encode = texts.iter().map(|text| self.encoders.text.encode(text, context));
        let encoded = async { try_join_all(encode).await.map_err(status(context)) };
        let texts = context.within("encoding", encoded).await?;
        Ok(Response::new(EncodeTextResponse { texts }))
    }

    async fn embed_text(
        &self,
        request: Request<EmbedTextRequest>,
    ) -> Result<Response<EmbedTextResponse>, Status> {
        let context = Context::of(&request);
        let joint = joint(&self.encoders)?;
        let (expected, digest) = (&request.get_ref().space_digest, &joint.image.digest);
        if !expected.is_empty() && expected != digest {
            return Err(Refusal::mismatch(format!(
                "the search is for the joint encoder {expected}, this one is {digest}: deploy one bundle everywhere"
            ))
            .into());
        }
        let texts = self.tokenized(request, |encoders, message| {
            convert::queries(&message.texts, &self::joint(encoders)?.text)
        });
        let texts = texts.await?;
        let encode = texts.iter().map(|text| joint.text.encode(text, context));
        let encoded = async { try_join_all(encode).await.map_err(status(context)) };
        let encoded = context.within("encoding", encoded).await?;
        let rows: Vec<f32> = encoded.iter().flat_map(|text| text.outputs.iter().flatten().copied()).collect();
        let embeddings = tensors::from_f32(&[texts.len(), rows.len() / texts.len()], &rows);
        let space_digest = joint.image.digest.clone();
        Ok(Response::new(EmbedTextResponse { embeddings: Some(embeddings), space_digest }))
    }

    async fn embed_image(
        &self,
        request: Request<EmbedImageRequest>,
    ) -> Result<Response<EmbedImageResponse>, Status> {
        let context = Context::of(&request);
        let model = &joint(&self.encoders)?.image;
        let decoding = convert::images(request.into_inner(), model.reader);
        let images = context.within("decoding the images", decoding).await?;
        let count = images.len();
        let embed = images.into_iter().map(async |image| model.embed(&image, context).await);
        let embedded = iter(embed).buffered(IMAGES_AT_A_TIME).try_collect::<Vec<_>>();
        let embedded = async { embedded.await.map_err(|error| lanes::run_status(&error, context)) };
        let rows = context.within("encoding", embedded).await?.concat();
        let embeddings = tensors::from_f32(&[count, model.dim], &rows);
        let space_digest = model.digest.clone();
        Ok(Response::new(EmbedImageResponse { embeddings: Some(embeddings), space_digest }))
    }

    async fn get_models(&self, _: Request<GetModelsRequest>) -> Result<Response<GetModelsResponse>, Status> {
        let joint = self.encoders.joint.as_ref().map(|joint| JointSpace {
            space_digest: joint.image.digest.clone(),
            dimension: joint.image.dim as u32,
        });
        let text_encoder_digest = self.encoders.text.digest().to_owned();
        Ok(Response::new(GetModelsResponse { joint, text_encoder_digest }))
    }
}
