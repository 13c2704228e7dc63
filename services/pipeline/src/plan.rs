//! Which models an image is drawn with, where the replicas of a stage may have different ones, as while another bundle is rolled out.
//!
//! The calls of an image carry the digests of the models that it was planned with, and replicas with others refuse them. So a plan needs
//! no replica's address: it only has to be one that some replica of each stage can follow.

use std::fmt::Write as _;
use std::time::Duration;

use futures::future::{BoxFuture, join_all, try_join_all};
use reverie_proto::autoencoder::v1::GetModelRequest as GetAutoencoderRequest;
use reverie_proto::autoencoder::v1::GetModelResponse as Coders;
use reverie_proto::autoencoder::v1::autoencoder_service_client::AutoencoderServiceClient;
use reverie_proto::denoiser::v1::denoiser_service_client::DenoiserServiceClient;
use reverie_proto::denoiser::v1::{GetModelRequest, GetModelResponse};
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::encoder::v1::{GetModelsRequest, GetModelsResponse};
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::superresolution::v1::{ListLevelsRequest, ListLevelsResponse};
use reverie_service_kit::client::{Channel, Replica, Upstream};
use reverie_service_kit::{Context, Refusal};
use tonic::{Code, Response, Status};

use crate::fit::{self, Identities};
use crate::stages::{Models, Stages, levels_of};

/// How long a replica may take to tell what it has; one that takes longer is left out of the plan.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What replicas of one stage tell alike.
#[derive(Debug)]
struct Told<T> {
    facts: T,
    /// Those that tell it.
    addresses: Vec<String>,
}

/// What every replica of every stage has.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    stages: &'a Stages,
    bases: Vec<Told<GetModelResponse>>,
    /// By deployment.
    levels: Vec<Vec<Told<ListLevelsResponse>>>,
    encoders: Vec<Told<GetModelsResponse>>,
    coders: Option<Vec<Told<Coders>>>,
}

/// A combination of what replicas have.
struct Candidate {
    models: Models,
    /// Replicas of the stage that has the fewest for it.
    replicas: usize,
}

impl<'a> Survey<'a> {
    /// Asks all replicas.
    pub(crate) async fn of(stages: &'a Stages, context: Context) -> Result<Self, Status> {
        let bases = told_by(&stages.denoiser, context, |channel| {
            Box::pin(async move {
                let mut client = DenoiserServiceClient::new(channel);
                client.get_model(context.outgoing(GetModelRequest {})).await.map(Response::into_inner)
            })
        });
        let encoders = told_by(&stages.encoder, context, |channel| {
            Box::pin(async move {
                let mut client = EncoderServiceClient::new(channel);
                client.get_models(context.outgoing(GetModelsRequest {})).await.map(Response::into_inner)
            })
        });
        let levels = try_join_all(stages.super_resolution.iter().map(|stage| {
            told_by(stage, context, |channel| {
                Box::pin(async move {
                    let mut client = SuperResolutionServiceClient::new(channel);
                    client.list_levels(context.outgoing(ListLevelsRequest {})).await.map(Response::into_inner)
                })
            })
        }));
        let coders = async {
            let Some(stage) = &stages.autoencoder else { return Ok(None) };
            let told = told_by(stage, context, |channel| {
                Box::pin(async move {
                    let mut client = AutoencoderServiceClient::new(channel);
                    let asked = client.get_model(context.outgoing(GetAutoencoderRequest {}));
                    asked.await.map(Response::into_inner)
                })
            });
            told.await.map(Some)
        };
        let (bases, encoders, levels, coders) = tokio::try_join!(bases, encoders, levels, coders)?;
        Ok(Self { stages, bases, levels, encoders, coders })
    }

    /// The models of the combination that most replicas have, of those in which all belong together.
    ///
    /// # Errors
    /// Where no combination fits: what is in the way of the most common one.
    pub(crate) fn models(&self) -> Result<Models, Status> {
        let mut candidates = self.candidates();
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.replicas));
        let mut why = None;
        for Candidate { models, .. } in candidates {
            match self.check(&models) {
                Ok(()) => return Ok(models),
                Err(refusal) => why = why.or(Some(refusal)),
            }
        }
        let why = Status::from(why.unwrap_or_else(|| Refusal::mismatch("no stage tells what models it has")));
        if self.stages.has_several && why.code() == Code::FailedPrecondition {
            // A replica that has just come may not be known yet.
            return Err(
                Refusal::unavailable(format!("{}, or wait for a rollout to end", why.message())).into()
            );
        }
        Err(why)
    }

    /// Which stages have replicas with different models; none if all replicas of each agree.
    pub(crate) fn differences(&self) -> Option<String> {
        let mut text = String::new();
        let named = |name: &str, version: &str, digest: &str| format!("{name} {version} ({})", short(digest));
        differ(&mut text, &self.stages.denoiser, &self.bases, |base| {
            let model = base.model.clone().unwrap_or_default();
            named(&model.name, &model.version, &model.digest)
        });
        for (stage, levels) in self.stages.super_resolution.iter().zip(&self.levels) {
            differ(&mut text, stage, levels, |answer| {
                let models = answer.levels.iter().filter_map(|level| level.model.as_ref());
                let models = models.map(|model| named(&model.name, &model.version, &model.digest));
                models.collect::<Vec<_>>().join(" and ")
            });
        }
        differ(&mut text, &self.stages.encoder, &self.encoders, |answer| {
            let joint = answer.joint.as_ref().map_or("", |joint| joint.space_digest.as_str());
            format!("text {} and joint {}", short(&answer.text_encoder_digest), short(joint))
        });
        if let Some((stage, coders)) = self.stages.autoencoder.as_ref().zip(self.coders.as_ref()) {
            differ(&mut text, stage, coders, |answer| {
                let model = answer.decoder.clone().unwrap_or_default();
                named(&model.name, &model.version, &model.digest)
            });
        }
        (!text.is_empty()).then_some(text)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut choices: Vec<Vec<&Told<ListLevelsResponse>>> = vec![Vec::new()];
        for deployment in &self.levels {
            let with = |choice: &Vec<_>, told| choice.iter().copied().chain([told]).collect();
            choices = choices
                .iter()
                .flat_map(|choice| deployment.iter().map(move |told| with(choice, told)))
                .collect();
        }
        let mut candidates = Vec::new();
        for base in &self.bases {
            for choice in &choices {
                let answers = self.stages.super_resolution.iter().zip(choice.iter().map(|told| &told.facts));
                let models = Models {
                    base: base.facts.clone(),
                    levels: levels_of(answers.map(|(stage, answer)| (stage, answer.clone()))),
                    has_retrieval: self.stages.retrieval.is_some(),
                    has_latent_encoder: self.has_latent_encoder(&base.facts),
                };
                let replicas =
                    choice.iter().map(|told| told.addresses.len()).chain([base.addresses.len()]).min();
                candidates.push(Candidate { models, replicas: replicas.unwrap_or_default() });
            }
        }
        candidates
    }

    /// Whether a replica with the decoder of `base` encodes pictures for it.
    fn has_latent_encoder(&self, base: &GetModelResponse) -> bool {
        let wanted = base.latent.as_ref().map(|latent| &latent.decoder_digest);
        let decoder = |coders: &Coders| coders.decoder.clone().unwrap_or_default().digest;
        let mut coders = self.coders.iter().flatten().map(|told| &told.facts);
        coders.any(|coders| coders.encoder.is_some() && wanted == Some(&decoder(coders)))
    }

    /// Whether models belong together, and some replica of each other stage has what they need.
    fn check(&self, models: &Models) -> Result<(), Refusal> {
        fit::check_cascade(models, self.coders.is_some())?;
        let encoders = self.encoders.iter().map(|told| told.facts.text_encoder_digest.clone());
        let decoder = |told: &Told<Coders>| told.facts.decoder.clone().unwrap_or_default().digest;
        let decoders: Vec<_> = match &self.coders {
            None => vec![None],
            Some(coders) => coders.iter().map(|told| Some(decoder(told))).collect(),
        };
        let mut why = None;
        for text_encoder in encoders {
            for decoder in decoders.clone() {
                let identities = Identities { text_encoder: text_encoder.clone(), decoder };
                match fit::check_identities(models, &identities) {
                    Ok(()) => return Ok(()),
                    Err(refusal) => why = why.or(Some(refusal)),
                }
            }
        }
        why.map_or(Ok(()), Err)
    }
}

impl Models {
    /// The digests of the models.
    pub(crate) fn digests(&self) -> Vec<String> {
        let base = self.base.model.iter().map(|model| model.digest.clone());
        let read = [self.base.text_encoder_digest.clone()].into_iter();
        let decoder = self.base.latent.iter().map(|latent| latent.decoder_digest.clone());
        base.chain(read)
            .chain(decoder)
            .chain(self.levels.iter().map(|level| level.model.digest.clone()))
            .collect()
    }
}

/// Asks each replica of `stage`. Those that do not answer are left out, unless none does.
async fn told_by<T: PartialEq>(
    stage: &Upstream,
    context: Context,
    ask: impl Fn(Channel) -> BoxFuture<'static, Result<T, Status>>,
) -> Result<Vec<Told<T>>, Status> {
    let answers = stage.replicas().into_iter().map(|Replica { address, channel }| {
        let asked = tokio::time::timeout(TIMEOUT, ask(channel));
        async move { (address, asked.await) }
    });
    let mut told: Vec<Told<T>> = Vec::new();
    let mut failure = None;
    for (address, answer) in join_all(answers).await {
        let address = address.unwrap_or_default();
        match answer {
            Ok(Ok(facts)) => match told.iter_mut().find(|told| told.facts == facts) {
                Some(told) => told.addresses.push(address),
                None => told.push(Told { facts, addresses: vec![address] }),
            },
            Ok(Err(status)) => failure = failure.or(Some(status)),
            Err(_) => {
                let late = || Refusal::unavailable(format!("it does not answer within {TIMEOUT:?}")).into();
                failure = failure.or_else(|| Some(late()));
            }
        }
    }
    match failure {
        Some(status) if told.is_empty() => Err(stage.blame(context, status)),
        _ => Ok(told),
    }
}

/// The beginning of a digest, which tells it from others.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Says of a stage whose replicas differ which has what.
fn differ<T>(text: &mut String, stage: &Upstream, told: &[Told<T>], describe: impl Fn(&T) -> String) {
    if told.len() < 2 {
        return;
    }
    let each = told.iter().map(|told| format!("{} at {}", describe(&told.facts), told.addresses.join(", ")));
    let separator = if text.is_empty() { "" } else { "; " };
    // Writing to a text does not fail.
    let _ = write!(text, "{separator}{}: {}", stage.name(), each.collect::<Vec<_>>().join(", "));
}
