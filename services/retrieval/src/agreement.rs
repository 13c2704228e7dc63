//! Whether this service and its stages work on the same knowledge bases: the encoder must be the one that made the vectors,
//! and the vector service must have the vectors of these entries.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use reverie_proto::encoder::v1::GetModelsRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_service_kit::Context;
use reverie_service_kit::client::{Channel, Upstream};
use tonic::Code;

use crate::embedding::EmbeddingSearch;
use crate::knowledge_base::{KnowledgeBase, KnowledgeBases};

/// How long a stage gets to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often a stage that does not answer is asked again.
const INTERVAL: Duration = Duration::from_millis(250);

/// Asks the stages; cheap to clone.
#[derive(Clone)]
pub(crate) struct Agreement {
    embedding: EmbeddingSearch,
    knowledge_bases: Arc<KnowledgeBases>,
}

/// What the encoder says of itself.
enum Encoder {
    Fits,
    Differs(String),
    DoesNotAnswer(String),
}

impl Agreement {
    pub(crate) fn new(embedding: EmbeddingSearch, knowledge_bases: Arc<KnowledgeBases>) -> Self {
        Self { embedding, knowledge_bases }
    }

    /// Whether both stages serve and work on these knowledge bases, or what is in the way.
    pub(crate) async fn check(&self) -> Result<(), String> {
        self.embedding.check_health(TIMEOUT).await?;
        match self.encoder().await {
            Encoder::Fits => self.vector().await,
            Encoder::Differs(why) | Encoder::DoesNotAnswer(why) => Err(why),
        }
    }

    /// Waits for the encoder's first answer; returns only if it is not the one that made the vectors, with what to do.
    pub(crate) async fn refused_by_the_encoder(&self) -> String {
        loop {
            match self.encoder().await {
                Encoder::Fits => std::future::pending().await,
                Encoder::Differs(why) => return why,
                Encoder::DoesNotAnswer(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    /// Of several encoders, one that fits is enough: those of another bundle refuse the calls, which go on to the next.
    async fn encoder(&self) -> Encoder {
        let replicas = self.embedding.encoder().replicas();
        let answers = join_all(replicas.into_iter().map(|replica| self.encoder_at(replica.channel))).await;
        let rank = |encoder: &Encoder| match encoder {
            Encoder::Fits => 0,
            Encoder::DoesNotAnswer(_) => 1,
            Encoder::Differs(_) => 2,
        };
        let nobody = || Encoder::DoesNotAnswer("there is no encoder".to_owned());
        answers.into_iter().min_by_key(rank).unwrap_or_else(nobody)
    }

    async fn encoder_at(&self, channel: Channel) -> Encoder {
        let request = Context::probe(TIMEOUT).outgoing(GetModelsRequest {});
        let joint = match EncoderServiceClient::new(channel).get_models(request).await {
            Ok(models) => models.into_inner().joint,
            Err(status) => return Encoder::DoesNotAnswer(no_answer(self.embedding.encoder(), &status)),
        };
        let runs = joint.as_ref().map_or("none", |joint| &joint.space_digest);
        // One that is not loaded is told in the log; the others can be searched.
        let mut all = self.knowledge_bases.values().filter_map(|live| live.current().ok());
        match all.find(|known| known.space_digest != runs).as_deref() {
            None => Encoder::Fits,
            Some(KnowledgeBase { name, space_digest, .. }) => Encoder::Differs(format!(
                "knowledge base {name:?} was built with the joint encoder {space_digest}, the encoder service runs {runs}; \
                 build it again, or start the encoder with the bundle that it was built with"
            )),
        }
    }

    /// The same for the vector service: of several, one that has a knowledge base is enough.
    async fn vector(&self) -> Result<(), String> {
        let replicas = self.embedding.vector().replicas();
        let answers = join_all(replicas.into_iter().map(|replica| self.vector_at(replica.channel))).await;
        let nobody = || Err("there is no vector service".to_owned());
        answers.into_iter().min_by_key(Result::is_err).unwrap_or_else(nobody)
    }

    async fn vector_at(&self, channel: Channel) -> Result<(), String> {
        let stage = self.embedding.vector();
        // One knowledge base that cannot be searched must not keep the others from it.
        let (mut is_one_fit, mut why) = (self.knowledge_bases.is_empty(), None);
        for live in self.knowledge_bases.values() {
            let base = match live.current() {
                Ok(base) => base,
                Err(not_loaded) => {
                    why = why.or(Some(not_loaded.to_string()));
                    continue;
                }
            };
            match EmbeddingSearch::prepare_at(channel.clone(), Context::probe(TIMEOUT), &base, false).await {
                Ok(()) => is_one_fit = true,
                Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => {
                    let KnowledgeBase { name, content_digest, .. } = &*base;
                    why = Some(format!(
                        "knowledge base {name:?} is {content_digest} here, which the vector service does not have: {}",
                        status.message()
                    ));
                }
                Err(status) => return Err(no_answer(stage, &status)),
            }
        }
        why.filter(|_| !is_one_fit).map_or(Ok(()), Err)
    }
}

fn no_answer(stage: &Upstream, status: &tonic::Status) -> String {
    format!("{} does not tell what it has loaded: {}", stage.name(), status.message())
}
