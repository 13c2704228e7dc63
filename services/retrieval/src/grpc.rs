//! The gRPC face: convert, retrieve, convert.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_imaging::pictures::MAX_ENCODED_BYTES;
use reverie_proto::retrieval::v1::retrieval_service_server::RetrievalService;
use reverie_proto::retrieval::v1::{
    ListKnowledgeBasesRequest, ListKnowledgeBasesResponse, RetrieveRequest, RetrieveResponse,
};
use reverie_service_kit::Context;
use reverie_service_kit::telemetry::gen_ai;
use tonic::{Request, Response, Status};

use crate::convert::{self, Detail};
use crate::embedding::EmbeddingSearch;
use crate::knowledge_base::KnowledgeBase;
use crate::settings::{Fusion, Settings};
use crate::thumbnails::Thumbnails;

/// Largest request: an image, and room for texts, a vector, a filter and a thousand ids.
pub(crate) const MAX_REQUEST_BYTES: usize = MAX_ENCODED_BYTES + (4 << 20);

/// Answers with neighbours.
pub(crate) struct Retrieval {
    knowledge_bases: Arc<BTreeMap<String, Arc<KnowledgeBase>>>,
    default: String,
    embedding: EmbeddingSearch,
    fusion: Fusion,
    thumbnails: Thumbnails,
}

impl Retrieval {
    pub(crate) fn new(
        knowledge_bases: Arc<BTreeMap<String, Arc<KnowledgeBase>>>,
        embedding: EmbeddingSearch,
        settings: &Settings,
    ) -> Self {
        Self {
            knowledge_bases,
            default: settings.default_knowledge_base.clone(),
            embedding,
            fusion: settings.fusion,
            thumbnails: Thumbnails::new(),
        }
    }
}

#[tonic::async_trait]
impl RetrievalService for Retrieval {
    async fn retrieve(
        &self,
        request: Request<RetrieveRequest>,
    ) -> Result<Response<RetrieveResponse>, Status> {
        let context = Context::of(&request);
        let work = async {
            let (retrieve, detail) =
                convert::retrieve(request.into_inner(), &self.knowledge_bases, &self.default)?;
            gen_ai::retrieval(&retrieve.knowledge_base.name, &retrieve.text);
            let knowledge_base = Arc::clone(&retrieve.knowledge_base);
            let outcome = retrieve.run(context, &self.embedding, self.fusion).await?;
            let thumbnails = if detail == Detail::Thumbnail {
                let keys: Vec<u64> = outcome.found.iter().map(|found| found.key).collect();
                self.thumbnails.of(&knowledge_base, &keys).await?
            } else {
                Vec::new()
            };
            Ok(Response::new(convert::response(&knowledge_base, outcome, detail, thumbnails)))
        };
        context.within("retrieval", work).await
    }

    async fn list_knowledge_bases(
        &self,
        _: Request<ListKnowledgeBasesRequest>,
    ) -> Result<Response<ListKnowledgeBasesResponse>, Status> {
        let described = |found: &Arc<KnowledgeBase>| convert::describe(found, &self.default);
        let knowledge_bases = self.knowledge_bases.values().map(described).collect();
        Ok(Response::new(ListKnowledgeBasesResponse { knowledge_bases }))
    }
}

#[cfg(test)]
mod tests;
