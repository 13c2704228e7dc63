//! The gRPC face: convert, retrieve, convert.

use std::sync::Arc;

use reverie_imaging::pictures::MAX_ENCODED_BYTES;
use reverie_proto::retrieval::v1::retrieval_service_server::RetrievalService;
use reverie_proto::retrieval::v1::{
    ListKnowledgeBasesRequest, ListKnowledgeBasesResponse, PrepareRequest, PrepareResponse, RetrieveRequest,
    RetrieveResponse,
};
use reverie_service_kit::refusal::is_for_other_models;
use reverie_service_kit::telemetry::gen_ai;
use reverie_service_kit::{Context, Permit, Refusal};
use tonic::{Request, Response, Status};

use crate::convert::{self, Detail};
use crate::embedding::EmbeddingSearch;
use crate::knowledge_base::KnowledgeBase;
use crate::library::Library;
use crate::settings::{Fusion, Settings};
use crate::thumbnails::Thumbnails;

/// Largest request: an image, and room for texts, a vector, a filter and a thousand ids.
pub(crate) const MAX_REQUEST_BYTES: usize = MAX_ENCODED_BYTES + (4 << 20);

/// Answers with neighbours.
pub(crate) struct Retrieval {
    library: Arc<Library>,
    embedding: EmbeddingSearch,
    fusion: Fusion,
    thumbnails: Thumbnails,
}

impl Retrieval {
    pub(crate) fn new(
        library: Arc<Library>,
        embedding: EmbeddingSearch,
        thumbnails: Thumbnails,
        settings: &Settings,
    ) -> Self {
        Self { library, embedding, fusion: settings.fusion, thumbnails }
    }

    /// Searches one epoch.
    async fn search(
        &self,
        context: Context,
        permit: &Permit,
        request: RetrieveRequest,
        base: Arc<KnowledgeBase>,
    ) -> Result<Response<RetrieveResponse>, Status> {
        let (retrieve, detail) = convert::retrieve(request, Arc::clone(&base))?;
        gen_ai::retrieval(&base.name, &retrieve.text);
        let outcome = retrieve.run(context, permit, &self.embedding, self.fusion).await?;
        let thumbnails = if detail == Detail::Thumbnail {
            let keys: Vec<u64> = outcome.found.iter().map(|found| found.key).collect();
            self.thumbnails.of(&base, &keys).await?
        } else {
            Vec::new()
        };
        Ok(Response::new(convert::response(&base, outcome, detail, thumbnails)))
    }
}

#[tonic::async_trait]
impl RetrievalService for Retrieval {
    async fn retrieve(
        &self,
        request: Request<RetrieveRequest>,
    ) -> Result<Response<RetrieveResponse>, Status> {
        let (context, permit) = (Context::of(&request), Permit::of(&request));
        let work = async {
            let request = request.into_inner();
            let live = self.library.named(&request.knowledge_base)?;
            let base = self.library.current(&request.knowledge_base)?;
            match self.search(context, &permit, request.clone(), Arc::clone(&base)).await {
                // The vector service may have begun with a later epoch.
                Err(status) if is_for_other_models(&status) => match live.refresh().await {
                    Ok(later) if later.epoch != base.epoch => {
                        self.search(context, &permit, request, later).await
                    }
                    _ => Err(status),
                },
                outcome => outcome,
            }
        };
        context.within("retrieval", work).await
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let context = Context::of(&request);
        let PrepareRequest { knowledge_base, epoch, drop_older } = request.into_inner();
        let work = async {
            let live = self.library.named(&knowledge_base)?;
            let mut current = self.library.current(&knowledge_base)?;
            if current.epoch < epoch {
                current = live.refresh().await.map_err(Refusal::unavailable)?;
            }
            if current.epoch < epoch {
                let (name, found) = (&current.name, current.epoch);
                let why = format!("the latest epoch of {name:?} is {found}, not {epoch}");
                return Err(Refusal::unavailable(why).into());
            }
            if drop_older {
                self.library.drop_older(live, &self.embedding).await;
            }
            Ok(Response::new(PrepareResponse { epoch: current.epoch }))
        };
        context.within("retrieval", work).await
    }

    async fn list_knowledge_bases(
        &self,
        _: Request<ListKnowledgeBasesRequest>,
    ) -> Result<Response<ListKnowledgeBasesResponse>, Status> {
        let loaded = self.library.knowledge_bases.values().filter_map(|live| live.current().ok());
        let knowledge_bases = loaded.map(|base| convert::describe(&base, &self.library.default)).collect();
        Ok(Response::new(ListKnowledgeBasesResponse { knowledge_bases }))
    }
}

#[cfg(test)]
mod tests;
