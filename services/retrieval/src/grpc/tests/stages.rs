//! Stages that answer as they are told.

use reverie_proto::encoder::v1 as encoder;
use reverie_proto::encoder::v1::encoder_service_server::EncoderService;
use reverie_proto::tensors;
use reverie_proto::vector::v1 as vector;
use reverie_proto::vector::v1::vector_service_server::VectorService;
use reverie_service_kit::Refusal;
use roaring::RoaringBitmap;
use tonic::{Request, Response, Status};

/// Embeds every text alike, and every image alike, in the space of this digest.
pub(super) struct StillEncoder(pub(super) &'static str);

#[tonic::async_trait]
impl EncoderService for StillEncoder {
    async fn encode_text(
        &self,
        _: Request<encoder::EncodeTextRequest>,
    ) -> Result<Response<encoder::EncodeTextResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn embed_text(
        &self,
        request: Request<encoder::EmbedTextRequest>,
    ) -> Result<Response<encoder::EmbedTextResponse>, Status> {
        assert_eq!(request.get_ref().texts.len(), 1);
        let embeddings = Some(tensors::from_f32(&[1, 4], &[1.0, 0.0, 0.0, 0.0]));
        Ok(Response::new(encoder::EmbedTextResponse { embeddings, space_digest: self.0.repeat(64) }))
    }

    async fn embed_image(
        &self,
        request: Request<encoder::EmbedImageRequest>,
    ) -> Result<Response<encoder::EmbedImageResponse>, Status> {
        assert_eq!(request.get_ref().images.len(), 1);
        let embeddings = Some(tensors::from_f32(&[1, 4], &[0.0, 1.0, 0.0, 0.0]));
        Ok(Response::new(encoder::EmbedImageResponse { embeddings, space_digest: self.0.repeat(64) }))
    }

    async fn get_models(
        &self,
        _: Request<encoder::GetModelsRequest>,
    ) -> Result<Response<encoder::GetModelsResponse>, Status> {
        let joint = Some(encoder::JointSpace { space_digest: self.0.repeat(64), dimension: 4 });
        Ok(Response::new(encoder::GetModelsResponse { joint, ..Default::default() }))
    }
}

/// Finds the first entries that it may for the vector of a text, and those from 120 on for another; or refuses.
pub(super) struct FirstEntries {
    pub(super) overloaded: bool,
    /// The identity of what it has loaded.
    pub(super) content_digest: String,
}

#[tonic::async_trait]
impl VectorService for FirstEntries {
    async fn search(
        &self,
        request: Request<vector::SearchRequest>,
    ) -> Result<Response<vector::SearchResponse>, Status> {
        if self.overloaded {
            return Err(Refusal::overloaded("all places are taken").into());
        }
        let request = request.into_inner();
        assert_eq!((request.collection.as_str(), request.epoch), ("creatures", Some(3)));
        let first = if request.vector == [1.0, 0.0, 0.0, 0.0] { 0 } else { 120 };
        let keys = request.allowed_keys;
        let allowed = (!keys.is_empty()).then(|| RoaringBitmap::deserialize_from(&keys[..]).unwrap());
        let hits = (first..160_u32)
            .filter(|&key| allowed.as_ref().is_none_or(|allowed| allowed.contains(key)))
            .take(request.limit as usize)
            .zip(0_u8..)
            .map(|(key, rank)| vector::Hit { key: key.into(), score: 0.9 - f32::from(rank) / 100.0 })
            .collect();
        let content_digest = self.content_digest.clone();
        Ok(Response::new(vector::SearchResponse { hits, epoch: 3, content_digest }))
    }

    async fn compare(
        &self,
        request: Request<vector::CompareRequest>,
    ) -> Result<Response<vector::CompareResponse>, Status> {
        // Entries of one creature look alike.
        let keys = request.into_inner().keys;
        let alike = |one: usize, other: usize| if keys[one] / 4 == keys[other] / 4 { 0.95 } else { 0.1 };
        let similarities = (1..keys.len())
            .flat_map(|one| (0..one).map(move |other| (one, other)))
            .map(|(one, other)| alike(one, other));
        let (similarities, content_digest) = (similarities.collect(), self.content_digest.clone());
        Ok(Response::new(vector::CompareResponse { similarities, epoch: 3, content_digest }))
    }

    async fn batch_search(
        &self,
        _: Request<vector::BatchSearchRequest>,
    ) -> Result<Response<vector::BatchSearchResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn measure_recall(
        &self,
        _: Request<vector::MeasureRecallRequest>,
    ) -> Result<Response<vector::MeasureRecallResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn prepare(
        &self,
        request: Request<vector::PrepareRequest>,
    ) -> Result<Response<vector::PrepareResponse>, Status> {
        let asked = request.into_inner().content_digest;
        if asked == self.content_digest {
            return Ok(Response::new(vector::PrepareResponse { epoch: 3 }));
        }
        Err(Refusal::mismatch(format!("it is {}, not {asked}", self.content_digest)).into())
    }

    async fn list_collections(
        &self,
        _: Request<vector::ListCollectionsRequest>,
    ) -> Result<Response<vector::ListCollectionsResponse>, Status> {
        let content_digest = self.content_digest.clone();
        let loaded =
            vector::Collection { name: "creatures".to_owned(), content_digest, ..Default::default() };
        Ok(Response::new(vector::ListCollectionsResponse { collections: vec![loaded] }))
    }
}
