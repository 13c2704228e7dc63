//! The gRPC face: convert, search, convert.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_proto::vector::v1::vector_service_server::VectorService;
use reverie_proto::vector::v1::{
    ListCollectionsRequest, ListCollectionsResponse, SearchRequest, SearchResponse,
};
use reverie_service_kit::{Context, Permit, Refusal};
use tonic::{Request, Response, Status};

use crate::collection::Collection;
use crate::convert;

/// Largest request: a vector of 65,536 numbers and room for the rest.
pub(crate) const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Answers searches.
pub(crate) struct Vector {
    collections: BTreeMap<String, Arc<Collection>>,
}

impl Vector {
    pub(crate) fn new(collections: BTreeMap<String, Arc<Collection>>) -> Self {
        Self { collections }
    }
}

#[tonic::async_trait]
impl VectorService for Vector {
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let context = Context::of(&request);
        let work = async {
            let permit = Permit::of(&request);
            let search = convert::search(request.get_ref(), &self.collections)?;
            let epoch = search.collection.epoch();
            let hits = tokio::task::spawn_blocking(move || {
                // Kept until the search ends, even if its caller left: a place is a thread of the index.
                let _permit = permit;
                search.collection.search(&search.query, search.limit)
            })
            .await
            .map_err(Refusal::internal)?
            .map_err(Refusal::internal)?;
            Ok(Response::new(convert::response(hits, epoch)))
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
mod tests {
    use std::time::Duration;

    use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
    use reverie_service_kit::client::Stage;
    use reverie_service_kit::settings::{Sources, load};
    use reverie_service_kit::{Listener, Shutdown};
    use tonic::Code;

    use crate::collection::tests::{circle, write};
    use crate::{Settings, build_index, run};

    use super::*;

    fn settings(location: &str) -> Settings {
        let overrides = [("knowledge_bases.creatures", ""), ("knowledge_bases.shapes", location)]
            .map(|(key, value)| (key.to_owned(), format!("{value:?}")))
            .to_vec();
        load(&Sources { config: None, overrides }).unwrap()
    }

    #[tokio::test]
    async fn searches_over_a_channel() {
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().to_str().unwrap();
        let rows = circle(12, 4);
        write(location, &rows, 4, build_index(4, &rows).unwrap()).await;
        let (listener, address) = Listener::memory();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(run(settings(location), listener, shutdown.clone()));
        let stage = Stage::new("vector", &address);
        let mut client = VectorServiceClient::new(stage.channel());

        let listed =
            client.list_collections(ListCollectionsRequest {}).await.unwrap().into_inner().collections;
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].name.as_str(), listed[0].epoch, listed[0].size), ("shapes", 7, 12));
        let good = SearchRequest {
            collection: "shapes".to_owned(),
            vector: rows[5].clone(),
            space_digest: listed[0].space_digest.clone(),
            limit: 3,
            epoch: Some(7),
        };
        let found = client.search(good.clone()).await.unwrap().into_inner();
        assert_eq!((found.epoch, found.hits.len(), found.hits[0].key), (7, 3, 5));

        let wrong = |change: fn(&mut SearchRequest)| {
            let mut request = good.clone();
            change(&mut request);
            request
        };
        let cases = [
            (wrong(|r| r.collection = "birds".to_owned()), Code::NotFound, "shapes"),
            (wrong(|r| r.limit = 0), Code::InvalidArgument, "limit"),
            (wrong(|r| r.limit = 1001), Code::InvalidArgument, "limit"),
            (wrong(|r| r.vector[0] = f32::NAN), Code::InvalidArgument, "vector"),
            (wrong(|r| r.vector = vec![0.0; 4]), Code::InvalidArgument, "vector"),
            (wrong(|r| r.vector = vec![1.0; 5]), Code::InvalidArgument, "vector"),
            (wrong(|r| r.space_digest = "b".repeat(64)), Code::InvalidArgument, "space_digest"),
            (wrong(|r| r.epoch = Some(8)), Code::FailedPrecondition, "epoch 7"),
        ];
        for (request, code, told) in cases {
            let status = client.search(request).await.unwrap_err();
            assert_eq!(status.code(), code, "{status}");
            assert!(status.message().contains(told), "{status}");
        }
        // Health turns to SERVING with the first check, which runs beside the first calls.
        while stage.check_health(Duration::from_secs(5)).await.is_err() {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
        drop((client, stage));
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_missing_knowledge_base_is_named_and_nothing_starts() {
        let (listener, _address) = Listener::memory();
        let error =
            run(settings("/nowhere/shapes"), listener, Shutdown::new()).await.unwrap_err().to_string();
        assert!(error.contains("\"shapes\"") && error.contains("/nowhere/shapes/manifest.json"), "{error}");
    }
}
