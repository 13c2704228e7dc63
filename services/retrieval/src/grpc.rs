//! The gRPC face: convert, retrieve, convert.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_proto::retrieval::v1::retrieval_service_server::RetrievalService;
use reverie_proto::retrieval::v1::{
    ListKnowledgeBasesRequest, ListKnowledgeBasesResponse, RetrieveRequest, RetrieveResponse,
};
use reverie_service_kit::Context;
use reverie_service_kit::telemetry::gen_ai;
use tonic::{Request, Response, Status};

use crate::convert;
use crate::embedding::EmbeddingSearch;
use crate::knowledge_base::KnowledgeBase;
use crate::settings::{Fusion, Settings};

/// Largest request: a text and a name, with room.
pub(crate) const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Answers with neighbours.
pub(crate) struct Retrieval {
    knowledge_bases: Arc<BTreeMap<String, Arc<KnowledgeBase>>>,
    default: String,
    embedding: EmbeddingSearch,
    fusion: Fusion,
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
            let retrieve = convert::retrieve(request.get_ref(), &self.knowledge_bases, &self.default)?;
            gen_ai::retrieval(&retrieve.knowledge_base.name, &retrieve.text);
            let knowledge_base = Arc::clone(&retrieve.knowledge_base);
            let outcome = retrieve.run(context, &self.embedding, self.fusion).await?;
            Ok(Response::new(convert::response(&knowledge_base, outcome)))
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
