//! The stages of the cascade, each behind one method: one call to one service.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use reverie_proto::denoiser::v1::denoise_response::Event as DenoiseEvent;
use reverie_proto::denoiser::v1::denoiser_service_client::DenoiserServiceClient;
use reverie_proto::denoiser::v1::{DenoiseCompleted, DenoiseRequest, Progress};
use reverie_proto::encoder::v1::EncodeTextRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::retrieval::v1::{RetrieveRequest, RetrieveResponse};
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::superresolution::v1::upscale_response::Event as UpscaleEvent;
use reverie_proto::superresolution::v1::{ListLevelsRequest, UpscaleCompleted, UpscaleRequest};
use reverie_proto::tensor::v1::TextTokens;
use reverie_service_kit::client::{MAX_INTERNAL_MESSAGE, Stage};
use reverie_service_kit::{Context, Refusal};
use tokio::sync::OnceCell;
use tonic::Status;

use crate::settings::StageAddresses;

/// A level of the cascade and who serves it.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    pub(crate) low_side: u32,
    pub(crate) side: u32,
    server: Stage,
}

/// All stages; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stages {
    encoder: Stage,
    retrieval: Stage,
    denoiser: Stage,
    super_resolution: Vec<Stage>,
    levels: Arc<OnceCell<Vec<Level>>>,
}

macro_rules! client {
    ($client:ident, $stage:expr) => {
        $client::new($stage.channel())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE)
    };
}

impl Stages {
    pub(crate) fn new(addresses: &StageAddresses) -> Self {
        Self {
            encoder: Stage::new("encoder", &addresses.encoder),
            retrieval: Stage::new("retrieval", &addresses.retrieval),
            denoiser: Stage::new("denoiser", &addresses.denoiser),
            super_resolution: addresses
                .super_resolution
                .iter()
                .map(|address| Stage::new("super-resolution", address))
                .collect(),
            levels: Arc::default(),
        }
    }

    /// Asks every stage whether it serves; gives the reason of the first that does not.
    pub(crate) async fn check_health(&self, timeout: Duration) -> Result<(), String> {
        let stages =
            [&self.encoder, &self.retrieval, &self.denoiser].into_iter().chain(&self.super_resolution);
        try_join_all(stages.map(|stage| stage.check_health(timeout))).await.map(|_| ())
    }

    /// The levels of the cascade, from small to large; asked once and remembered.
    pub(crate) async fn levels(&self, context: Context) -> Result<&[Level], Status> {
        let ask = async || {
            let answers = self.super_resolution.iter().map(|stage| async move {
                let mut client = client!(SuperResolutionServiceClient, stage);
                let answer = client.list_levels(context.outgoing(ListLevelsRequest {}));
                let answer = answer.await.map_err(|status| stage.blame(context, status))?;
                Ok::<_, Status>(answer.into_inner().levels.into_iter().map(|level| Level {
                    low_side: level.low_resolution_size,
                    side: level.image_size,
                    server: stage.clone(),
                }))
            });
            let mut levels: Vec<Level> = try_join_all(answers).await?.into_iter().flatten().collect();
            levels.sort_by_key(|level| level.low_side);
            if let Some(gap) = levels.windows(2).find(|pair| pair[0].side != pair[1].low_side) {
                return Err(Status::from(Refusal::unavailable(format!(
                    "the super-resolution levels do not follow each other: one draws {} px, the next starts from {} px",
                    gap[0].side, gap[1].low_side
                ))));
            }
            Ok(levels)
        };
        self.levels.get_or_try_init(ask).await.map(Vec::as_slice)
    }

    pub(crate) async fn encode(
        &self,
        context: Context,
        texts: Vec<String>,
    ) -> Result<Vec<TextTokens>, Status> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let expected = texts.len();
        let mut client = client!(EncoderServiceClient, self.encoder);
        let answer = client.encode_text(context.outgoing(EncodeTextRequest { texts }));
        let texts = answer.await.map_err(|status| self.encoder.blame(context, status))?.into_inner().texts;
        if texts.len() == expected {
            Ok(texts)
        } else {
            Err(Refusal::internal("the encoder lost a text").into())
        }
    }

    pub(crate) async fn retrieve(
        &self,
        context: Context,
        request: RetrieveRequest,
    ) -> Result<RetrieveResponse, Status> {
        let mut client = client!(RetrievalServiceClient, self.retrieval);
        let answer = client.retrieve(context.outgoing(request)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.retrieval.blame(context, status))
    }

    pub(crate) async fn denoise(
        &self,
        context: Context,
        request: DenoiseRequest,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<DenoiseCompleted, Status> {
        let stage = &self.denoiser;
        let blame = |status| stage.blame(context, status);
        let mut client = client!(DenoiserServiceClient, stage);
        let mut news = client.denoise(context.outgoing(request)).await.map_err(blame)?.into_inner();
        while let Some(message) = news.message().await.map_err(blame)? {
            match message.event {
                Some(DenoiseEvent::Progress(step)) => progress(step),
                Some(DenoiseEvent::Completed(completed)) => return Ok(completed),
                None => {}
            }
        }
        Err(ended_early(stage))
    }

    pub(crate) async fn upscale(
        &self,
        context: Context,
        level: &Level,
        request: UpscaleRequest,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<UpscaleCompleted, Status> {
        let stage = &level.server;
        let blame = |status| stage.blame(context, status);
        let mut client = client!(SuperResolutionServiceClient, stage);
        let mut news = client.upscale(context.outgoing(request)).await.map_err(blame)?.into_inner();
        while let Some(message) = news.message().await.map_err(blame)? {
            match message.event {
                Some(UpscaleEvent::Progress(step)) => progress(step),
                Some(UpscaleEvent::Completed(completed)) => return Ok(completed),
                None => {}
            }
        }
        Err(ended_early(stage))
    }
}

fn ended_early(stage: &Stage) -> Status {
    Refusal::unavailable(format!("stage {} ended without a picture", stage.name())).into()
}
