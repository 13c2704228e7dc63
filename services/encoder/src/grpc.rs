//! The gRPC face: admit, convert, encode on a blocking thread, convert.

use std::sync::Arc;

use reverie_proto::encoder::v1::encoder_service_server::EncoderService;
use reverie_proto::encoder::v1::{
    EmbedImageRequest, EmbedImageResponse, EmbedTextRequest, EmbedTextResponse, EncodeTextRequest,
    EncodeTextResponse, GetModelsRequest, GetModelsResponse, JointSpace,
};
use reverie_proto::tensors;
use reverie_service_kit::{Context, Permit, Refusal};
use tonic::{Request, Response, Status};

use crate::text_model::EncodeError;
use crate::wanted::{Caller, Wanted};
use crate::{Encoders, JointEncoders, convert};

pub(crate) struct Encoder {
    encoders: Arc<Encoders>,
}

impl Encoder {
    pub(crate) fn new(encoders: Arc<Encoders>) -> Self {
        Self { encoders }
    }

    /// Takes over the place of a request and runs `work`; see [`Self::run_admitted`].
    async fn run<T, R>(
        &self,
        request: Request<T>,
        work: impl FnOnce(&Encoders, T, &Wanted) -> Result<R, Status> + Send + 'static,
    ) -> Result<Response<R>, Status>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let permit = Permit::of(&request);
        let context = Context::of(&request);
        self.run_admitted(permit, context, request.into_inner(), work).await
    }

    /// Runs `work` on a blocking thread, which holds its place among the requests in flight.
    async fn run_admitted<T, R>(
        &self,
        permit: Permit,
        context: Context,
        message: T,
        work: impl FnOnce(&Encoders, T, &Wanted) -> Result<R, Status> + Send + 'static,
    ) -> Result<Response<R>, Status>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let encoders = Arc::clone(&self.encoders);
        let span = tracing::Span::current();
        let caller = Caller::new();
        let wanted = caller.wanted();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(|| work(&encoders, message, &wanted))
        });
        let answer =
            async { task.await.map_err(|_| Status::from(Refusal::internal("the encoder panicked")))? };
        let answer = context.within("encoding", answer).await;
        drop(caller);
        answer.map(Response::new)
    }
}

/// What the caller is told, or would be if there still were one.
fn status(error: EncodeError) -> Status {
    match error {
        EncodeError::Model(error) => Refusal::internal(error).into(),
        EncodeError::NotWanted => Status::cancelled(error.to_string()),
    }
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
        self.run(request, |encoders, message, wanted| {
            let encoder = &encoders.text;
            let texts = convert::prompts(&message, encoder)?;
            let encode = |text: &Vec<_>| encoder.encode(text, wanted).map_err(status);
            Ok(EncodeTextResponse { texts: texts.iter().map(encode).collect::<Result<_, Status>>()? })
        })
        .await
    }

    async fn embed_text(
        &self,
        request: Request<EmbedTextRequest>,
    ) -> Result<Response<EmbedTextResponse>, Status> {
        self.run(request, |encoders, message, wanted| {
            let joint = joint(encoders)?;
            let texts = convert::queries(&message.texts, &joint.text)?;
            let mut rows = Vec::new();
            for text in &texts {
                let encoded = joint.text.encode(text, wanted).map_err(status)?;
                rows.extend(encoded.outputs.iter().flatten());
            }
            let embeddings = tensors::from_f32(&[texts.len(), rows.len() / texts.len()], &rows);
            Ok(EmbedTextResponse { embeddings: Some(embeddings), space_digest: joint.image.digest.clone() })
        })
        .await
    }

    async fn embed_image(
        &self,
        request: Request<EmbedImageRequest>,
    ) -> Result<Response<EmbedImageResponse>, Status> {
        let permit = Permit::of(&request);
        let context = Context::of(&request);
        let reader = joint(&self.encoders)?.image.reader;
        let decoding = convert::images(request.into_inner(), reader);
        let pictures = context.within("decoding the images", decoding).await?;
        self.run_admitted(permit, context, pictures, |encoders, pictures, wanted| {
            let model = &joint(encoders)?.image;
            let mut rows = Vec::with_capacity(pictures.len() * model.dim);
            for picture in &pictures {
                if !wanted.is_wanted() {
                    return Err(status(EncodeError::NotWanted));
                }
                rows.extend(model.embed(picture).map_err(Refusal::internal)?);
            }
            Ok(EmbedImageResponse {
                embeddings: Some(tensors::from_f32(&[pictures.len(), model.dim], &rows)),
                space_digest: model.digest.clone(),
            })
        })
        .await
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
