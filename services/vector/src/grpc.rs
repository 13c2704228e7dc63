//! The gRPC face: convert, search, convert.

use std::sync::Arc;

use reverie_proto::vector::v1::vector_service_server::VectorService;
use reverie_proto::vector::v1::{
    CompareRequest, CompareResponse, ListCollectionsRequest, ListCollectionsResponse, PrepareRequest,
    PrepareResponse, SearchRequest, SearchResponse,
};
use reverie_service_kit::{Context, Permit, Refusal};
use tonic::{Request, Response, Status};

use crate::convert::{self, Collections};

/// Largest request: the keys of most of 50 million entries, a vector of 65,536 numbers, and room for the rest.
pub(crate) const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Answers searches.
pub(crate) struct Vector {
    collections: Collections,
}

impl Vector {
    pub(crate) fn new(collections: Collections) -> Self {
        Self { collections }
    }
}

#[tonic::async_trait]
impl VectorService for Vector {
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let context = Context::of(&request);
        let work = async {
            let permit = Permit::of(&request);
            let search = convert::search(request.get_ref(), &self.collections).await?;
            let collection = Arc::clone(&search.collection);
            // A place is a thread of the index, so it is held until the search ends.
            let hits = permit.run_blocking(move || {
                let hits = search.collection.search(&search.query, search.limit, search.allowed.as_ref());
                hits.map_err(|error| Refusal::internal(error).into())
            });
            let hits = hits.await?;
            Ok(Response::new(convert::response(hits, &collection)))
        };
        context.within("vector", work).await
    }

    async fn compare(&self, request: Request<CompareRequest>) -> Result<Response<CompareResponse>, Status> {
        let context = Context::of(&request);
        let work = async {
            let permit = Permit::of(&request);
            let compare = convert::compare(request.into_inner(), &self.collections).await?;
            let collection = Arc::clone(&compare.collection);
            let similarities = permit.run_blocking(move || {
                let similarities = compare.collection.compare(&compare.keys);
                similarities.map_err(|error| Refusal::internal(error).into())
            });
            let (similarities, epoch) = (similarities.await?, collection.manifest().epoch);
            let content_digest = collection.content_digest().to_owned();
            Ok(Response::new(CompareResponse { similarities, epoch, content_digest }))
        };
        context.within("vector", work).await
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let context = Context::of(&request);
        let request = request.into_inner();
        let work = async {
            let live = convert::named(&request.collection, &self.collections)?;
            convert::epoch(live, None, &request.content_digest).await?;
            if request.drop_older {
                live.drop_older();
            }
            Ok(Response::new(PrepareResponse { epoch: live.current().manifest().epoch }))
        };
        context.within("vector", work).await
    }

    async fn list_collections(
        &self,
        _: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        let collections = self.collections.values().map(|live| convert::describe(&live.current())).collect();
        Ok(Response::new(ListCollectionsResponse { collections }))
    }
}

#[cfg(test)]
mod tests;
