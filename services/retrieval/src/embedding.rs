//! Search by embedding: the encoder turns the text into a vector, the vector service finds the pictures nearest to it.

use std::time::Duration;

use reverie_proto::encoder::v1::EmbedTextRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::tensors;
use reverie_proto::vector::v1::SearchRequest;
use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_service_kit::client::Upstream;
use reverie_service_kit::{Context, Refusal};
use tonic::Status;

use crate::fusion::Hit;
use crate::knowledge_base::KnowledgeBase;
use crate::settings::Stages;

/// The stages that search by embedding needs; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EmbeddingSearch {
    encoder: Upstream,
    vector: Upstream,
}

impl EmbeddingSearch {
    pub(crate) fn new(stages: &Stages) -> Self {
        Self {
            encoder: Upstream::new("encoder", &stages.encoder),
            vector: Upstream::new("vector", &stages.vector),
        }
    }

    /// The `limit` entries whose pictures are nearest to `text`, best first, with their cosine similarities.
    pub(crate) async fn search(
        &self,
        context: Context,
        knowledge_base: &KnowledgeBase,
        text: &str,
        limit: u32,
    ) -> Result<Vec<Hit>, Status> {
        let vector = self.embed(context, knowledge_base, text).await?;
        let request = SearchRequest {
            collection: knowledge_base.name.clone(),
            vector,
            space_digest: knowledge_base.space_digest.clone(),
            limit,
            epoch: Some(knowledge_base.epoch),
            content_digest: knowledge_base.content_digest.clone(),
        };
        let found = VectorServiceClient::new(self.vector.channel())
            .search(context.outgoing(request))
            .await
            .map_err(|status| self.vector.blame(context, status))?
            .into_inner();
        // A service that does not know of digests ignores the one in the request.
        if found.content_digest != knowledge_base.content_digest {
            return Err(Refusal::mismatch(format!(
                "knowledge base {:?} is {} here, and {:?} in the vector service; give both the same",
                knowledge_base.name, knowledge_base.content_digest, found.content_digest
            ))
            .into());
        }
        let size = knowledge_base.entries.len() as u64;
        if let Some(hit) = found.hits.iter().find(|hit| hit.key >= size || !hit.score.is_finite()) {
            return Err(Refusal::internal(format!(
                "stage vector found entry {} of {size} in {:?}, with score {}",
                hit.key, knowledge_base.name, hit.score
            ))
            .into());
        }
        Ok(found.hits.iter().map(|hit| Hit { key: hit.key, score: hit.score }).collect())
    }

    /// Whether both stages serve, or which one does not.
    pub(crate) async fn check_health(&self, timeout: Duration) -> Result<(), String> {
        tokio::try_join!(self.encoder.check_health(timeout), self.vector.check_health(timeout)).map(|_| ())
    }

    pub(crate) fn encoder(&self) -> &Upstream {
        &self.encoder
    }

    pub(crate) fn vector(&self) -> &Upstream {
        &self.vector
    }

    async fn embed(
        &self,
        context: Context,
        knowledge_base: &KnowledgeBase,
        text: &str,
    ) -> Result<Vec<f32>, Status> {
        let request = EmbedTextRequest { texts: vec![text.to_owned()] };
        let embedded = EncoderServiceClient::new(self.encoder.channel())
            .embed_text(context.outgoing(request))
            .await
            .map_err(|status| self.encoder.blame(context, status))?
            .into_inner();
        if embedded.space_digest != knowledge_base.space_digest {
            return Err(Refusal::mismatch(format!(
                "knowledge base {:?} was built with the joint encoder {}, the encoder service runs {}; build it again",
                knowledge_base.name, knowledge_base.space_digest, embedded.space_digest
            ))
            .into());
        }
        let tensor = embedded.embeddings.unwrap_or_default();
        tensors::to_f32_of_shape(&tensor, &[1, knowledge_base.dimension]).map_err(|error| {
            Refusal::internal(format!("stage encoder sent an embedding, but {error}")).into()
        })
    }
}
