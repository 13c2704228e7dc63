//! The stages of the cascade, each behind one method: one call to one service.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use reverie_proto::autoencoder::v1::autoencoder_service_client::AutoencoderServiceClient;
use reverie_proto::autoencoder::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, GetModelRequest as GetAutoencoderRequest,
    GetModelResponse as GetAutoencoderResponse, PredictRequest as PredictCodingRequest,
    PredictResponse as PredictCodingResponse,
};
use reverie_proto::denoiser::v1::denoise_response::Event as DenoiseEvent;
use reverie_proto::denoiser::v1::denoiser_service_client::DenoiserServiceClient;
use reverie_proto::denoiser::v1::{
    DenoiseCompleted, DenoiseRequest, GetModelRequest, GetModelResponse, PredictRequest,
};
use reverie_proto::diffusion::v1::{ModelIdentity, Prediction, Sampling, StepProgress};
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::encoder::v1::{EncodeTextRequest, GetModelsRequest};
use reverie_proto::generation::v1::SuperResolutionOptions;
use reverie_proto::knowledge::v1::knowledge_service_client::KnowledgeServiceClient;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::retrieval::v1::{
    KnowledgeBase, ListKnowledgeBasesRequest, PrepareRequest, RetrieveRequest, RetrieveResponse,
};
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::superresolution::v1::upscale_response::Event as UpscaleEvent;
use reverie_proto::superresolution::v1::{
    CheckOptionsRequest, ListLevelsRequest, ListLevelsResponse, UpscaleCompleted, UpscaleRequest,
};
use reverie_proto::tensor::v1::{Latent, TextTokens};
use reverie_service_kit::client::{Addresses, Channel, MAX_INTERNAL_MESSAGE, Upstream};
use reverie_service_kit::{Context, Refusal};
use tonic::{Code, Response, Status};

use crate::fit::{self, Identities};
use crate::plan::Survey;
use crate::settings::StageAddresses;

/// How long a replica that serves may take to be known here.
const REPLICAS_APPEAR: Duration = Duration::from_secs(5);
/// How often all are asked meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A level of the cascade and who serves it.
#[derive(Debug, Clone)]
pub(crate) struct ServedLevel {
    pub(crate) low_side: u32,
    pub(crate) side: u32,
    /// Whether it has to be given the empty text, encoded, where there is no negative prompt.
    pub(crate) takes_empty_text: bool,
    pub(crate) model: ModelIdentity,
    /// Of the encoder that it was trained with; "" for one that takes no text.
    pub(crate) text_encoder_digest: String,
    /// What requests may ask of it.
    pub(crate) options: LevelOptions,
    /// Of the bundle that it is of; "" if its server does not say.
    pub(crate) bundle_digest: String,
    server: Upstream,
}

/// What requests may ask of a level, and what those get that ask for nothing.
#[derive(Debug, Clone)]
pub(crate) struct LevelOptions {
    pub(crate) samplers: Vec<i32>,
    pub(crate) max_steps: u32,
    pub(crate) default_sampling: Option<Sampling>,
    /// None for a level that takes no text.
    pub(crate) default_guidance_weight: Option<f32>,
    pub(crate) default_noise_level: f32,
}

/// What the models of the cascade draw and take.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    pub(crate) base: GetModelResponse,
    /// From small to large.
    pub(crate) levels: Vec<ServedLevel>,
    /// Whether there are knowledge bases to search.
    pub(crate) has_retrieval: bool,
    /// Whether pictures can be encoded to the latents that the base model works on.
    pub(crate) has_latent_encoder: bool,
}

impl Models {
    /// Whether reference images can be searched for: there are some, and the model takes them.
    pub(crate) fn can_search(&self) -> bool {
        self.has_retrieval && self.base.max_neighbours > 0
    }

    /// Whether a request may give a picture to start from.
    pub(crate) fn takes_initial(&self) -> bool {
        self.base.latent.is_none() || self.has_latent_encoder
    }
}

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

macro_rules! client {
    ($client:ident, $stage:expr) => {
        $client::new($stage.channel())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE)
    };
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

    /// Asks every stage whether it serves and whether all belong together; gives the reason of the first that does not.
    pub(crate) async fn check_health(&self, timeout: Duration) -> Result<(), String> {
        let stages =
            [&self.encoder, &self.denoiser].into_iter().chain(&self.retrieval).chain(&self.autoencoder);
        let stages = stages.chain(&self.super_resolution);
        let answers = join_all(stages.map(|stage| stage.check_health(timeout))).await;
        answers.into_iter().collect::<Result<(), _>>()?;
        let fit = self.check_fit(Context::probe(timeout)).await;
        fit.map_err(|status| status.message().to_owned())
    }

    /// Whether the models of all stages belong together: `FAILED_PRECONDITION` where they do not.
    pub(crate) async fn check_fit(&self, context: Context) -> Result<(), Status> {
        if self.may_differ() {
            let survey = Survey::of(self, context).await?;
            self.note(survey.differences());
            return survey.models().map(drop);
        }
        self.note(None);
        let (models, identities) = tokio::try_join!(self.models(context), self.identities(context))?;
        Ok(fit::check_identities(&models, &identities)?)
    }

    /// What the models draw and take. Asked for with each picture, as a stage may be restarted with other models at any time.
    ///
    /// One replica of each stage answers. Where what they have does not belong together, all are asked.
    pub(crate) async fn models(&self, context: Context) -> Result<Models, Status> {
        let (base, levels) = tokio::try_join!(self.base_model(context), self.levels(context))?;
        let coders = match &base.latent {
            Some(_) => self.coders(context).await?,
            None => None,
        };
        let decoder = coders.as_ref().and_then(|coders| coders.decoder.as_ref());
        let wanted = base.latent.as_ref().map(|latent| &latent.decoder_digest);
        let differs = decoder.is_some_and(|decoder| Some(&decoder.digest) != wanted);
        if differs && self.may_differ() {
            return self.models_of_all(context).await;
        }
        let models = Models {
            base,
            levels,
            has_retrieval: self.retrieval.is_some(),
            has_latent_encoder: coders.is_some_and(|coders| coders.encoder.is_some()),
        };
        let fits = fit::check_cascade(&models, self.autoencoder.is_some());
        if self.may_differ() && fits.is_err() {
            return self.models_of_all(context).await;
        }
        Ok(fits.map(|()| models)?)
    }

    /// The same of all replicas: what was planned cannot be followed any more. Where nothing fits, a replica that has just come may not be
    /// known yet, and is waited for.
    pub(crate) async fn models_of_all(&self, context: Context) -> Result<Models, Status> {
        let begun = Instant::now();
        loop {
            match Survey::of(self, context).await?.models() {
                Err(status)
                    if self.has_several
                        && status.code() == Code::Unavailable
                        && begun.elapsed() < REPLICAS_APPEAR =>
                {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether a stage has several replicas, which may have different models.
    fn may_differ(&self) -> bool {
        let mut stages = [&self.encoder, &self.denoiser]
            .into_iter()
            .chain(&self.autoencoder)
            .chain(&self.super_resolution);
        stages.any(|stage| stage.replicas().len() > 1)
    }

    /// Logs how the models of replicas differ when that changes.
    fn note(&self, differences: Option<String>) {
        let mut noted = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        if *noted == differences {
            return;
        }
        if let Some(differences) = &differences {
            tracing::warn!("replicas have different models: {differences}");
        } else {
            tracing::info!("all replicas of each stage have the same models");
        }
        *noted = differences;
    }

    /// The models of the stages that only read what others give.
    async fn identities(&self, context: Context) -> Result<Identities, Status> {
        let encoder = async {
            let mut client = client!(EncoderServiceClient, self.encoder);
            let answer = client.get_models(context.outgoing(GetModelsRequest {})).await;
            answer.map_err(|status| self.encoder.blame(context, status))
        };
        let (encoder, autoencoder) = tokio::try_join!(encoder, self.coders(context))?;
        Ok(Identities {
            text_encoder: encoder.into_inner().text_encoder_digest,
            decoder: autoencoder.map(|coders| coders.decoder.unwrap_or_default().digest),
        })
    }

    /// What the autoencoder has; none without one.
    async fn coders(&self, context: Context) -> Result<Option<GetAutoencoderResponse>, Status> {
        let Some(stage) = &self.autoencoder else { return Ok(None) };
        let mut client = client!(AutoencoderServiceClient, stage);
        let answer = client.get_model(context.outgoing(GetAutoencoderRequest {})).await;
        answer.map(|answer| Some(answer.into_inner())).map_err(|status| stage.blame(context, status))
    }

    async fn base_model(&self, context: Context) -> Result<GetModelResponse, Status> {
        let mut client = client!(DenoiserServiceClient, self.denoiser);
        let answer = client.get_model(context.outgoing(GetModelRequest {})).await;
        answer.map(Response::into_inner).map_err(|status| self.denoiser.blame(context, status))
    }

    /// From small to large, as one replica of each deployment has them.
    async fn levels(&self, context: Context) -> Result<Vec<ServedLevel>, Status> {
        let answers = self.super_resolution.iter().map(|stage| async move {
            let mut client = client!(SuperResolutionServiceClient, stage);
            let answer = client.list_levels(context.outgoing(ListLevelsRequest {}));
            let answer = answer.await.map_err(|status| stage.blame(context, status))?;
            Ok::<_, Status>((stage, answer.into_inner()))
        });
        Ok(levels_of(try_join_all(answers).await?))
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

/// The levels that deployments have, from small to large.
pub(crate) fn levels_of<'a>(
    answers: impl IntoIterator<Item = (&'a Upstream, ListLevelsResponse)>,
) -> Vec<ServedLevel> {
    let mut levels: Vec<ServedLevel> = Vec::new();
    for (stage, ListLevelsResponse { levels: served, bundle_digest }) in answers {
        levels.extend(served.into_iter().map(|level| ServedLevel {
            low_side: level.low_resolution_size,
            side: level.image_size,
            takes_empty_text: level.takes_empty_text,
            model: level.model.unwrap_or_default(),
            text_encoder_digest: level.text_encoder_digest,
            options: LevelOptions {
                samplers: level.samplers,
                max_steps: level.max_steps,
                default_sampling: level.default_sampling,
                default_guidance_weight: level.default_guidance_weight,
                default_noise_level: level.default_noise_level,
            },
            bundle_digest: bundle_digest.clone(),
            server: stage.clone(),
        }));
    }
    levels.sort_by_key(|level| level.low_side);
    levels
}

fn no_knowledge_bases() -> Status {
    Refusal::mismatch("this mesh has no knowledge bases").into()
}

fn ended_early(stage: &Upstream) -> Status {
    Refusal::unavailable(format!("stage {} ended without an image", stage.name())).into()
}
