//! What the stages have: their models, asked for with each picture, and whether they belong together.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use reverie_proto::autoencoder::v1::autoencoder_service_client::AutoencoderServiceClient;
use reverie_proto::autoencoder::v1::{
    GetModelRequest as GetAutoencoderRequest, GetModelResponse as GetAutoencoderResponse,
};
use reverie_proto::denoiser::v1::denoiser_service_client::DenoiserServiceClient;
use reverie_proto::denoiser::v1::{GetModelRequest, GetModelResponse};
use reverie_proto::diffusion::v1::{ModelIdentity, Sampling};
use reverie_proto::encoder::v1::GetModelsRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::superresolution::v1::{ListLevelsRequest, ListLevelsResponse};
use reverie_service_kit::Context;
use reverie_service_kit::client::{MAX_INTERNAL_MESSAGE, Upstream};
use tonic::{Code, Response, Status};

use super::Stages;
use crate::fit::{self, Identities};
use crate::plan::Survey;

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
    pub(super) server: Upstream,
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

impl Stages {
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
