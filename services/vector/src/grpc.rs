//! The gRPC face: convert, search, convert.

use std::sync::Arc;

use reverie_proto::vector::v1::vector_service_server::VectorService;
use reverie_proto::vector::v1::{
    BatchSearchRequest, BatchSearchResponse, CompareRequest, CompareResponse, Hit, Hits,
    ListCollectionsRequest, ListCollectionsResponse, MeasureRecallRequest, MeasureRecallResponse,
    PrepareRequest, PrepareResponse, SearchRequest, SearchResponse,
};
use reverie_service_kit::{Context, Permit, Refusal};
use tonic::{Request, Response, Status};

use crate::collection::Collection;
use crate::convert::{self, Collections, Search};
use crate::recall;

/// Largest request: the keys of most of 50 million entries, vectors of some hundred thousand numbers, and room for the rest.
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

/// Searches. A place is a thread of the index, so it is held until the searches end.
async fn run(permit: Permit, search: Search) -> Result<Vec<Vec<Hit>>, Status> {
    let Search { collection, queries, limit, allowed, is_exact } = search;
    let each = move || {
        let find = |query| collection.search(query, limit, allowed.as_ref(), is_exact).map(convert::hits);
        let found: Result<Vec<_>, _> = queries.iter().map(find).collect();
        found.map_err(|error| Refusal::internal(error).into())
    };
    permit.run_blocking(each).await
}

/// The epoch of a collection, and its content.
fn identity(collection: &Collection) -> (u64, String) {
    (collection.manifest().epoch, collection.content_digest().to_owned())
}

#[tonic::async_trait]
impl VectorService for Vector {
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let context = Context::of(&request);
        let work = async {
            let permit = Permit::of(&request);
            let search = convert::search(request.into_inner(), &self.collections).await?;
            let collection = Arc::clone(&search.collection);
            let hits = run(permit, search).await?.pop().unwrap_or_default();
            let (epoch, content_digest) = identity(&collection);
            Ok(Response::new(SearchResponse { hits, epoch, content_digest }))
        };
        context.within("vector", work).await
    }

    async fn batch_search(
        &self,
        request: Request<BatchSearchRequest>,
    ) -> Result<Response<BatchSearchResponse>, Status> {
        let context = Context::of(&request);
        let work = async {
            let permit = Permit::of(&request);
            let search = convert::batch(request.into_inner(), &self.collections).await?;
            let collection = Arc::clone(&search.collection);
            let results = run(permit, search).await?.into_iter().map(|hits| Hits { hits }).collect();
            let (epoch, content_digest) = identity(&collection);
            Ok(Response::new(BatchSearchResponse { results, epoch, content_digest }))
        };
        context.within("vector", work).await
    }

    async fn measure_recall(
        &self,
        request: Request<MeasureRecallRequest>,
    ) -> Result<Response<MeasureRecallResponse>, Status> {
        let (context, permit) = (Context::of(&request), Permit::of(&request));
        let measure = convert::measure(request.get_ref(), &self.collections)?;
        let deadline = context.deadline();
        let measured = permit.run_blocking(move || {
            recall::measure(&measure, deadline).map_err(|error| Refusal::internal(error).into())
        });
        context.within("vector", async { measured.await.map(Response::new) }).await
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
            let similarities = similarities.await?;
            let (epoch, content_digest) = identity(&collection);
            Ok(Response::new(CompareResponse { similarities, epoch, content_digest }))
        };
        context.within("vector", work).await
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let context = Context::of(&request);
        let request = request.into_inner();
        let work = async {
            let live = convert::named(&request.collection, &self.collections)?;
            convert::epoch(live, request.epoch, &request.content_digest).await?;
            if request.drop_older {
                live.drop_older();
            }
            let epoch = convert::current(live)?.manifest().epoch;
            Ok(Response::new(PrepareResponse { epoch }))
        };
        context.within("vector", work).await
    }

    async fn list_collections(
        &self,
        _: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        let loaded = self.collections.values().filter_map(|live| live.current().ok());
        let collections = loaded.map(|collection| convert::describe(&collection)).collect();
        Ok(Response::new(ListCollectionsResponse { collections }))
    }
}

#[cfg(test)]
mod tests;
