//! The gRPC face: convert, search, convert.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_proto::vector::v1::vector_service_server::VectorService;
use reverie_proto::vector::v1::{
    ListCollectionsRequest, ListCollectionsResponse, SearchRequest, SearchResponse,
};
use reverie_service_kit::{Admission, Context, Refusal};
use tonic::{Request, Response, Status};

use crate::collection::Collection;
use crate::convert;

/// Largest request: a vector of 65,536 numbers and room for the rest.
pub(crate) const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Answers searches.
pub(crate) struct Vector {
    collections: BTreeMap<String, Arc<Collection>>,
    admission: Admission,
}

impl Vector {
    pub(crate) fn new(collections: BTreeMap<String, Arc<Collection>>, max_in_flight: usize) -> Self {
        Self { collections, admission: Admission::new(max_in_flight) }
    }
}

#[tonic::async_trait]
impl VectorService for Vector {
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let context = Context::of(&request);
        let work = async {
            let permit = self.admission.admit()?;
            let search = convert::search(request.get_ref(), &self.collections)?;
            let collection = Arc::clone(&search.collection);
            let hits = tokio::task::spawn_blocking(move || {
                // Kept until the search ends, even if its caller left: a place is a thread of the index.
                let _permit = permit;
                search.collection.search(&search.query, search.limit)
            })
            .await
            .map_err(Refusal::internal)?
            .map_err(Refusal::internal)?;
            Ok(Response::new(convert::response(hits, &collection)))
        };
        context.within("vector", work).await
    }

    async fn list_collections(
        &self,
        _: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        let collections = self.collections.values().map(|collection| convert::describe(collection)).collect();
        Ok(Response::new(ListCollectionsResponse { collections }))
    }
}

#[cfg(test)]
mod tests;
