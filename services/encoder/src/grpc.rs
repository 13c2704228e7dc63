//! The gRPC face: admit, convert, encode on a blocking thread, convert.

use std::sync::Arc;

use reverie_inference::tokenizer::Overflow;
use reverie_proto::encoder::v1::encoder_service_server::EncoderService;
use reverie_proto::encoder::v1::{
    EmbedImageRequest, EmbedImageResponse, EmbedTextRequest, EmbedTextResponse, EncodeTextRequest,
    EncodeTextResponse,
};
use reverie_proto::tensor::v1::TextTokens;
use reverie_proto::tensors;
use reverie_service_kit::{Admission, Context, Refusal};
use tonic::{Request, Response, Status};

use crate::{Encoders, convert};

pub(crate) struct Encoder {
    encoders: Arc<Encoders>,
    admission: Admission,
}

impl Encoder {
    pub(crate) fn new(encoders: Arc<Encoders>, admission: Admission) -> Self {
        Self { encoders, admission }
    }

    /// Runs `work` on a blocking thread while its place among the requests in flight is held.
    async fn run<T, R>(
        &self,
        request: Request<T>,
        work: impl FnOnce(&Encoders, T) -> Result<R, Status> + Send + 'static,
    ) -> Result<Response<R>, Status>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let permit = self.admission.admit()?;
        let context = Context::of(&request);
        let encoders = Arc::clone(&self.encoders);
        let message = request.into_inner();
        let span = tracing::Span::current();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(|| work(&encoders, message))
        });
        let answer =
            async { task.await.map_err(|_| Status::from(Refusal::internal("the encoder panicked")))? };
        context.within("encoding", answer).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl EncoderService for Encoder {
    async fn encode_text(
        &self,
        request: Request<EncodeTextRequest>,
    ) -> Result<Response<EncodeTextResponse>, Status> {
        self.run(request, |encoders, message| {
            let model = &encoders.text;
            let texts = convert::texts(&message.texts, model, Overflow::Refuse)?
                .iter()
                .map(|text| {
                    let encoded = model.encode(text).map_err(Refusal::internal)?;
                    Ok(TextTokens {
                        tokens: Some(tensors::from_f32(&model.shape, &encoded.values)),
                        length: encoded.length as u32,
                        encoder_digest: model.digest.clone(),
                    })
                })
                .collect::<Result<_, Status>>()?;
            Ok(EncodeTextResponse { texts })
        })
        .await
    }

    async fn embed_text(
        &self,
        request: Request<EmbedTextRequest>,
    ) -> Result<Response<EmbedTextResponse>, Status> {
        self.run(request, |encoders, message| {
            let model = &encoders.joint_text;
            let texts = convert::texts(&message.texts, model, Overflow::Cut)?;
            let mut rows = Vec::new();
            for text in &texts {
                rows.extend_from_slice(&model.encode(text).map_err(Refusal::internal)?.values);
            }
            let embeddings = tensors::from_f32(&[texts.len(), rows.len() / texts.len()], &rows);
            Ok(EmbedTextResponse {
                embeddings: Some(embeddings),
                space_digest: encoders.joint_image.digest.clone(),
            })
        })
        .await
    }

    async fn embed_image(
        &self,
        request: Request<EmbedImageRequest>,
    ) -> Result<Response<EmbedImageResponse>, Status> {
        self.run(request, |encoders, message| {
            let model = &encoders.joint_image;
            let pictures = convert::images(&message.images)?;
            let mut rows = Vec::with_capacity(pictures.len() * model.dim);
            for picture in &pictures {
                rows.extend(model.embed(picture).map_err(Refusal::internal)?);
            }
            Ok(EmbedImageResponse {
                embeddings: Some(tensors::from_f32(&[pictures.len(), model.dim], &rows)),
                space_digest: model.digest.clone(),
            })
        })
        .await
    }
}
