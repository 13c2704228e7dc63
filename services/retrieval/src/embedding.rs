//! Search by embedding: the encoder turns a text or an image into a vector, the vector service finds the images nearest to it.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use reverie_knowledge::{Hit, UnitVector};
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::encoder::v1::{EmbedImageRequest, EmbedTextRequest};
use reverie_proto::knowledge::v1::Recall;
use reverie_proto::tensor::v1::{Image, Tensor};
use reverie_proto::tensors;
use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_proto::vector::v1::{
    CompareRequest, ListCollectionsRequest, MeasureRecallRequest, MeasureRecallResponse, PrepareRequest,
    SearchRequest,
};
use reverie_service_kit::client::{Channel, MAX_INTERNAL_MESSAGE, Replica, Upstream};
use reverie_service_kit::{Context, Refusal};
use roaring::RoaringBitmap;
use tonic::Status;

use crate::bm25::Allowed;
use crate::knowledge_base::KnowledgeBase;
use crate::settings::Stages;
use crate::thinning::Similarities;

/// How long the vector service may take to load an epoch before searches wait for it.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is searched for by embedding.
#[derive(Debug, Clone)]
pub(crate) enum Probe {
    /// The text of the request.
    Text,
    /// An image, encoded.
    Image(Image),
    /// A vector of the knowledge base's own space.
    Vector(UnitVector),
}

/// What a search by embedding may find.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Among<'a> {
    pub(crate) limit: u32,
    pub(crate) allowed: &'a Allowed,
    /// Whether none of the nearest may be missed.
    pub(crate) is_exact: bool,
}

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

    /// The entries whose images are nearest to `probe` or, if that is the text, to `text`; best first, with their cosine
    /// similarities.
    pub(crate) async fn search(
        &self,
        context: Context,
        knowledge_base: &KnowledgeBase,
        text: &str,
        probe: &Probe,
        among: Among<'_>,
    ) -> Result<Vec<Hit>, Status> {
        let Among { limit, allowed, is_exact } = among;
        let vector = match probe {
            Probe::Text => self.embed_text(context, knowledge_base, text).await?,
            Probe::Image(image) => self.embed_image(context, knowledge_base, image).await?,
            Probe::Vector(vector) => vector.values().to_vec(),
        };
        let request = SearchRequest {
            collection: knowledge_base.name.clone(),
            vector,
            space_digest: knowledge_base.space_digest.clone(),
            limit,
            epoch: Some(knowledge_base.epoch),
            content_digest: knowledge_base.content_digest.to_string(),
            allowed_keys: allowed.as_deref().map(keys).transpose()?.unwrap_or_default(),
            exact: is_exact,
        };
        let found = VectorServiceClient::new(self.vector.channel())
            .search(context.outgoing(request))
            .await
            .map_err(|status| self.vector.blame(context, status))?
            .into_inner();
        check_digest(knowledge_base, &found.content_digest)?;
        let size = knowledge_base.entries.count();
        if let Some(hit) = found.hits.iter().find(|hit| hit.key >= size || !hit.score.is_finite()) {
            return Err(Refusal::internal(format!(
                "stage vector found entry {} of {size} in {:?}, with score {}",
                hit.key, knowledge_base.name, hit.score
            ))
            .into());
        }
        Ok(found.hits.iter().map(|hit| Hit { key: hit.key, score: hit.score }).collect())
    }

    /// How alike the images of the entries `keys` are.
    pub(crate) async fn compare(
        &self,
        context: Context,
        knowledge_base: &KnowledgeBase,
        keys: Vec<u64>,
    ) -> Result<Similarities, Status> {
        let count = keys.len();
        let request = CompareRequest {
            collection: knowledge_base.name.clone(),
            keys,
            epoch: Some(knowledge_base.epoch),
            content_digest: knowledge_base.content_digest.to_string(),
        };
        let compared = VectorServiceClient::new(self.vector.channel())
            .compare(context.outgoing(request))
            .await
            .map_err(|status| self.vector.blame(context, status))?
            .into_inner();
        check_digest(knowledge_base, &compared.content_digest)?;
        let told = compared.similarities.len();
        Similarities::new(count, compared.similarities).ok_or_else(|| {
            Refusal::internal(format!("stage vector sent {told} similarities of {count} entries")).into()
        })
    }

    /// Memory that the vectors take in the vector service; none if it does not answer.
    pub(crate) async fn memory_bytes(&self, context: Context, knowledge_base: &KnowledgeBase) -> Option<u64> {
        let mut client = VectorServiceClient::new(self.vector.channel());
        let listed = client.list_collections(context.outgoing(ListCollectionsRequest {})).await.ok()?;
        let collections = listed.into_inner().collections;
        let own = collections.into_iter().find(|collection| collection.name == knowledge_base.name);
        own.map(|collection| collection.memory_bytes)
    }

    /// How many of the nearest entries searches find.
    pub(crate) async fn recall(
        &self,
        context: Context,
        knowledge_base: &KnowledgeBase,
        queries: u32,
    ) -> Result<Recall, Status> {
        let request = MeasureRecallRequest {
            collection: knowledge_base.name.clone(),
            queries: Some(queries),
            ..MeasureRecallRequest::default()
        };
        let measured = VectorServiceClient::new(self.vector.channel())
            .measure_recall(context.outgoing(request))
            .await
            .map_err(|status| self.vector.blame(context, status))?
            .into_inner();
        let MeasureRecallResponse { recall, queries, search_milliseconds, exact_milliseconds, .. } = measured;
        Ok(Recall { recall, queries, search_milliseconds, exact_milliseconds })
    }

    /// Has every replica of the vector service load this epoch; `Err` says why none could.
    pub(crate) async fn prepare(&self, knowledge_base: &KnowledgeBase) -> Result<(), Status> {
        let outcomes = self.prepare_all(knowledge_base, false).await;
        let nobody = || Err(Refusal::unavailable("there is no vector service").into());
        outcomes.into_iter().min_by_key(Result::is_err).unwrap_or_else(nobody)
    }

    /// Has every replica of the vector service drop the epochs before this one; `Err` says why one could not.
    pub(crate) async fn drop_older(&self, knowledge_base: &KnowledgeBase) -> Result<(), Status> {
        self.prepare_all(knowledge_base, true).await.into_iter().collect()
    }

    async fn prepare_all(&self, knowledge_base: &KnowledgeBase, drop_older: bool) -> Vec<Result<(), Status>> {
        let prepare = |replica: Replica| {
            let context = Context::with_timeout(PREPARE_TIMEOUT);
            Self::prepare_at(replica.channel, context, knowledge_base, drop_older)
        };
        join_all(self.vector.replicas().into_iter().map(prepare)).await
    }

    /// The same of one replica.
    pub(crate) async fn prepare_at(
        replica: Channel,
        context: Context,
        knowledge_base: &KnowledgeBase,
        drop_older: bool,
    ) -> Result<(), Status> {
        let request = PrepareRequest {
            collection: knowledge_base.name.clone(),
            content_digest: knowledge_base.content_digest.to_string(),
            drop_older,
            epoch: Some(knowledge_base.epoch),
        };
        VectorServiceClient::new(replica).prepare(context.outgoing(request)).await.map(drop)
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

    async fn embed_text(
        &self,
        context: Context,
        knowledge_base: &KnowledgeBase,
        text: &str,
    ) -> Result<Vec<f32>, Status> {
        let request = EmbedTextRequest {
            texts: vec![text.to_owned()],
            space_digest: knowledge_base.space_digest.clone(),
        };
        let embedded = EncoderServiceClient::new(self.encoder.channel())
            .embed_text(context.outgoing(request))
            .await
            .map_err(|status| self.encoder.blame(context, status))?
            .into_inner();
        self.row(knowledge_base, &embedded.space_digest, embedded.embeddings)
    }

    async fn embed_image(
        &self,
        context: Context,
        knowledge_base: &KnowledgeBase,
        image: &Image,
    ) -> Result<Vec<f32>, Status> {
        let own = |field: &str| field.starts_with("images[0]").then(|| "image".to_owned());
        let mut rows = self.embed_images(context, knowledge_base, vec![image.clone()], own).await?;
        rows.pop().ok_or_else(|| Refusal::internal("the vector of the image was lost").into())
    }

    /// The vectors of images, in their order. `own` names the caller's field for one of the encoder's, such as `images[2]`.
    pub(crate) async fn embed_images(
        &self,
        context: Context,
        knowledge_base: &KnowledgeBase,
        images: Vec<Image>,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<Vec<f32>>, Status> {
        let count = images.len();
        let request = EmbedImageRequest { images, ..EmbedImageRequest::default() };
        let client = EncoderServiceClient::new(self.encoder.channel());
        let embedded = client
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE)
            .embed_image(context.outgoing(request))
            .await
            .map_err(|status| self.encoder.blame_fields(context, status, own))?
            .into_inner();
        self.rows(knowledge_base, &embedded.space_digest, embedded.embeddings, count)
    }

    /// The only row of an answer of the encoder.
    fn row(
        &self,
        knowledge_base: &KnowledgeBase,
        space_digest: &str,
        embeddings: Option<Tensor>,
    ) -> Result<Vec<f32>, Status> {
        self.rows(knowledge_base, space_digest, embeddings, 1).map(|rows| rows.concat())
    }

    /// The rows of an answer of the encoder.
    fn rows(
        &self,
        knowledge_base: &KnowledgeBase,
        space_digest: &str,
        embeddings: Option<Tensor>,
        count: usize,
    ) -> Result<Vec<Vec<f32>>, Status> {
        if space_digest != knowledge_base.space_digest {
            return Err(Refusal::mismatch(format!(
                "knowledge base {:?} was built with the joint encoder {}, the encoder service runs {space_digest}; build it again",
                knowledge_base.name, knowledge_base.space_digest
            ))
            .into());
        }
        let (tensor, dimension) = (embeddings.unwrap_or_default(), knowledge_base.dimension as usize);
        let values = tensors::to_f32_of_shape(&tensor, &[count, dimension]).map_err(|error| {
            Refusal::internal(format!("stage {} sent an embedding, but {error}", self.encoder.name()))
        })?;
        Ok(values.chunks(dimension).map(<[f32]>::to_vec).collect())
    }
}

/// The keys of entries as the vector service takes them.
fn keys(allowed: &RoaringBitmap) -> Result<Bytes, Refusal> {
    let mut bytes = Vec::with_capacity(allowed.serialized_size());
    allowed.serialize_into(&mut bytes).map_err(Refusal::internal)?;
    Ok(bytes.into())
}

/// A service that does not know of digests ignores the one in a request.
fn check_digest(knowledge_base: &KnowledgeBase, found: &str) -> Result<(), Refusal> {
    if *found == *knowledge_base.content_digest {
        return Ok(());
    }
    Err(Refusal::mismatch(format!(
        "knowledge base {:?} is {} here, and {found:?} in the vector service; give both the same",
        knowledge_base.name, knowledge_base.content_digest
    )))
}
