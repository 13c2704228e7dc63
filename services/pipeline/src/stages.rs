//! The stages of the cascade, each behind one method: one call to one service.

use std::sync::{Arc, Mutex};

use futures::future::try_join_all;
use reverie_proto::autoencoder::v1::autoencoder_service_client::AutoencoderServiceClient;
use reverie_proto::autoencoder::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, PredictRequest as PredictCodingRequest,
    PredictResponse as PredictCodingResponse,
};
use reverie_proto::denoiser::v1::denoise_response::Event as DenoiseEvent;
use reverie_proto::denoiser::v1::denoiser_service_client::DenoiserServiceClient;
use reverie_proto::denoiser::v1::{DenoiseCompleted, DenoiseRequest, PredictRequest};
use reverie_proto::diffusion::v1::{Prediction, StepProgress};
use reverie_proto::encoder::v1::EncodeTextRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::generation::v1::SuperResolutionOptions;
use reverie_proto::knowledge::v1::knowledge_service_client::KnowledgeServiceClient;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::retrieval::v1::{
    KnowledgeBase, ListKnowledgeBasesRequest, PrepareRequest, RetrieveRequest, RetrieveResponse,
};
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::superresolution::v1::upscale_response::Event as UpscaleEvent;
use reverie_proto::superresolution::v1::{CheckOptionsRequest, UpscaleCompleted, UpscaleRequest};
use reverie_proto::tensor::v1::{Latent, TextTokens};
use reverie_service_kit::client::{Addresses, Channel, MAX_INTERNAL_MESSAGE, Upstream};
use reverie_service_kit::{Context, Refusal};
use tonic::{Code, Response, Status};

use crate::settings::StageAddresses;

macro_rules! client {
    ($client:ident, $stage:expr) => {
        $client::new($stage.channel())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE)
    };
}

mod models;

pub(crate) use models::{LevelOptions, Models, ServedLevel, levels_of};

/// All stages; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stages {
    pub(crate) encoder: Upstream,
    pub(crate) retrieval: Option<Upstream>,
    pub(crate) denoiser: Upstream,
    pub(crate) autoencoder: Option<Upstream>,
    pub(crate) super_resolution: Vec<Upstream>,
    /// Whether a stage has several addresses: one of its replicas may not be known yet.
    pub(crate) has_several: bool,
    /// How the models of replicas differ, as was logged last.
    differences: Arc<Mutex<Option<String>>>,
}

impl Stages {
    pub(crate) fn new(addresses: &StageAddresses) -> Self {
        let all = [&addresses.encoder, &addresses.denoiser].into_iter().chain(&addresses.autoencoder);
        let has_several = |stage: &Addresses| stage.iter().count() > 1;
        Self {
            has_several: all.chain(&addresses.super_resolution).any(has_several),
            encoder: Upstream::new("encoder", &addresses.encoder),
            retrieval: addresses.retrieval.as_ref().map(|address| Upstream::new("retrieval", address)),
            denoiser: Upstream::new("denoiser", &addresses.denoiser),
            autoencoder: addresses.autoencoder.as_ref().map(|address| Upstream::new("autoencoder", address)),
            super_resolution: addresses
                .super_resolution
                .iter()
                .map(|address| Upstream::new("super-resolution", address))
                .collect(),
            differences: Arc::default(),
        }
    }

    /// The tokens of each text. If `cut`, one that is too long for the model is read as far as the model reads; otherwise it is
    /// refused.
    /// Only the encoder of the digest `encoder` will do; "" is any.
    /// `own` is what the caller calls each of them (see [`Upstream::blame_fields`]), as in the other calls.
    pub(crate) async fn encode(
        &self,
        context: Context,
        encoder: &str,
        texts: Vec<String>,
        cut: bool,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<TextTokens>, Status> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let expected = texts.len();
        let mut client = client!(EncoderServiceClient, self.encoder);
        let answer = client.encode_text(context.outgoing(EncodeTextRequest {
            texts,
            cut,
            encoder_digest: encoder.to_owned(),
        }));
        let blame = |status| self.encoder.blame_fields(context, status, &own);
        let texts = answer.await.map_err(blame)?.into_inner().texts;
        if texts.len() == expected {
            Ok(texts)
        } else {
            Err(Refusal::internal(format!("encoder returned {} of {expected} texts", texts.len())).into())
        }
    }

    pub(crate) async fn retrieve(
        &self,
        context: Context,
        request: RetrieveRequest,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<RetrieveResponse, Status> {
        let Some(stage) = &self.retrieval else {
            return Err(no_knowledge_bases());
        };
        let mut client = client!(RetrievalServiceClient, stage);
        let answer = client.retrieve(context.outgoing(request)).await;
        answer.map(Response::into_inner).map_err(|status| stage.blame_fields(context, status, own))
    }

    /// A call to whoever changes knowledge bases. Its fields are the caller's own.
    pub(crate) async fn knowledge<T>(
        &self,
        context: Context,
        call: impl AsyncFnOnce(KnowledgeServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        let stage = self.retrieval.as_ref().ok_or_else(no_knowledge_bases)?;
        let answer = call(client!(KnowledgeServiceClient, stage)).await;
        let own = |field: &str| Some(field.to_owned());
        answer.map(Response::into_inner).map_err(|status| stage.blame_fields(context, status, own))
    }

    /// Has every replica of retrieval search an epoch. Gives the one that the slowest searches.
    pub(crate) async fn prepare_all(&self, context: Context, request: PrepareRequest) -> Result<u64, Status> {
        let stage = self.retrieval.as_ref().ok_or_else(no_knowledge_bases)?;
        let prepare = stage.replicas().into_iter().map(|replica| {
            let request = context.outgoing(request.clone());
            async move { RetrievalServiceClient::new(replica.channel).prepare(request).await }
        });
        let prepared = try_join_all(prepare).await.map_err(|status| stage.blame(context, status))?;
        Ok(prepared.into_iter().map(|answer| answer.into_inner().epoch).min().unwrap_or_default())
    }

    /// The knowledge bases that can be searched, by name; none without retrieval.
    pub(crate) async fn knowledge_bases(&self, context: Context) -> Result<Vec<KnowledgeBase>, Status> {
        let Some(stage) = &self.retrieval else { return Ok(Vec::new()) };
        let mut client = client!(RetrievalServiceClient, stage);
        let answer = client.list_knowledge_bases(context.outgoing(ListKnowledgeBasesRequest {})).await;
        Ok(answer.map_err(|status| stage.blame(context, status))?.into_inner().knowledge_bases)
    }

    pub(crate) async fn denoise(
        &self,
        context: Context,
        request: DenoiseRequest,
        own: impl Fn(&str) -> Option<String> + Send + Sync,
        mut tell: impl FnMut(DenoiseEvent) + Send,
    ) -> Result<DenoiseCompleted, Status> {
        let stage = &self.denoiser;
        let blame = |status| stage.blame_fields(context, status, &own);
        let mut client = client!(DenoiserServiceClient, stage);
        let mut news = client.denoise(context.outgoing(request)).await.map_err(blame)?.into_inner();
        let mut drawn = None;
        // To its end, so that the stage sees its call end well and not given up.
        while let Some(message) = news.message().await.map_err(blame)? {
            match message.event {
                Some(DenoiseEvent::Completed(completed)) => drawn = Some(completed),
                Some(event) => tell(event),
                None => {}
            }
        }
        drawn.ok_or_else(|| ended_early(stage))
    }

    pub(crate) async fn decode(
        &self,
        context: Context,
        latent: Latent,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<DecodeResponse, Status> {
        let stage = self.autoencoder()?;
        let mut client = client!(AutoencoderServiceClient, stage);
        let answer = client.decode(context.outgoing(DecodeRequest { latent: Some(latent) })).await;
        answer.map(Response::into_inner).map_err(|status| stage.blame_fields(context, status, own))
    }

    pub(crate) async fn encode_picture(
        &self,
        context: Context,
        request: EncodeRequest,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<EncodeResponse, Status> {
        let stage = self.autoencoder()?;
        let mut client = client!(AutoencoderServiceClient, stage);
        let answer = client.encode(context.outgoing(request)).await;
        answer.map(Response::into_inner).map_err(|status| stage.blame_fields(context, status, own))
    }

    /// Asks the autoencoder what an image would take of it.
    pub(crate) async fn predict_coding(
        &self,
        context: Context,
        request: PredictCodingRequest,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<PredictCodingResponse, Status> {
        let stage = self.autoencoder()?;
        let mut client = client!(AutoencoderServiceClient, stage);
        match client.predict(context.outgoing(request)).await {
            Ok(answer) => Ok(answer.into_inner()),
            // A service of an earlier version, as during an update.
            Err(status) if status.code() == Code::Unimplemented => Ok(PredictCodingResponse::default()),
            Err(status) => Err(stage.blame_fields(context, status, own)),
        }
    }

    fn autoencoder(&self) -> Result<&Upstream, Status> {
        let missing =
            || Refusal::internal("the model outputs latents but no autoencoder is configured").into();
        self.autoencoder.as_ref().ok_or_else(missing)
    }

    /// Asks the denoiser what an image would take of it; none if it cannot tell.
    pub(crate) async fn predict(
        &self,
        context: Context,
        request: PredictRequest,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Prediction>, Status> {
        let stage = &self.denoiser;
        let mut client = client!(DenoiserServiceClient, stage);
        match client.predict(context.outgoing(request)).await {
            Ok(answer) => Ok(answer.into_inner().prediction),
            // A service of an earlier version, as during an update.
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(stage.blame_fields(context, status, own)),
        }
    }

    /// Asks `level` whether its model can draw with `options`, before another stage draws for it, and what that would take; none if it
    /// cannot tell.
    pub(crate) async fn check_options(
        &self,
        context: Context,
        level: &ServedLevel,
        options: &SuperResolutionOptions,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Prediction>, Status> {
        let SuperResolutionOptions { guidance_weight, noise_level, sampling } = *options;
        let request = CheckOptionsRequest {
            low_resolution_size: level.low_side,
            guidance_weight,
            noise_level,
            sampling,
            model_digest: level.model.digest.clone(),
        };
        let mut client = client!(SuperResolutionServiceClient, level.server);
        match client.check_options(context.outgoing(request)).await {
            Ok(answer) => Ok(answer.into_inner().prediction),
            // A service of an earlier version, as during an update, checks them when it upscales.
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(level.server.blame_fields(context, status, own)),
        }
    }

    pub(crate) async fn upscale(
        &self,
        context: Context,
        level: &ServedLevel,
        request: UpscaleRequest,
        own: impl Fn(&str) -> Option<String> + Send + Sync,
        mut progress: impl FnMut(StepProgress) + Send,
    ) -> Result<UpscaleCompleted, Status> {
        let stage = &level.server;
        let blame = |status| stage.blame_fields(context, status, &own);
        let mut client = client!(SuperResolutionServiceClient, stage);
        let mut news = client.upscale(context.outgoing(request)).await.map_err(blame)?.into_inner();
        let mut drawn = None;
        // To its end, so that the stage sees its call end well and not given up.
        while let Some(message) = news.message().await.map_err(blame)? {
            match message.event {
                Some(UpscaleEvent::Progress(step)) => progress(step),
                Some(UpscaleEvent::Completed(completed)) => drawn = Some(completed),
                None => {}
            }
        }
        drawn.ok_or_else(|| ended_early(stage))
    }
}

fn no_knowledge_bases() -> Status {
    Refusal::mismatch("this mesh has no knowledge bases").into()
}

fn ended_early(stage: &Upstream) -> Status {
    Refusal::unavailable(format!("stage {} ended without an image", stage.name())).into()
}
