//! The gRPC face: convert, search, convert.

use std::num::NonZeroUsize;
use std::sync::Arc;

use reverie_knowledge::index::IndexError;
use reverie_proto::vector::v1::vector_service_server::VectorService;
use reverie_proto::vector::v1::{
    BatchSearchRequest, BatchSearchResponse, CompareRequest, CompareResponse, Hit, Hits,
    ListCollectionsRequest, ListCollectionsResponse, MeasureRecallRequest, MeasureRecallResponse,
    PrepareRequest, PrepareResponse, SearchRequest, SearchResponse,
};
use reverie_service_kit::{Context, Permit, Refusal, Shutdown};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::CollectionError;
use crate::collection::Collection;
use crate::convert::{self, Collections, Search};
use crate::recall;
use crate::vectors::Terms;

/// Largest request: the keys of most of 50 million entries, vectors of some hundred thousand numbers, and room for the rest.
pub(crate) const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Answers searches.
pub(crate) struct Vector {
    collections: Collections,
    /// For as many searches at a time as there are threads; the others wait in order.
    searching: Arc<Semaphore>,
    /// For a measurement of the recall, which has a thread of its own.
    measuring: Arc<Semaphore>,
}

impl Vector {
    /// For so many searches `at_a_time`. Indexes in memory were loaded for [`threads_of_indexes`].
    pub(crate) fn new(collections: Collections, at_a_time: usize) -> Self {
        let [searching, measuring] = [at_a_time, MEASUREMENTS].map(|places| Arc::new(Semaphore::new(places)));
        Self { collections, searching, measuring }
    }

    async fn search_all(
        &self,
        context: Context,
        permit: Permit,
        search: Search,
    ) -> Result<Vec<Vec<Hit>>, Status> {
        let Search { collection, queries, limit, allowed, is_exact } = search;
        let given_up = Shutdown::new();
        let _waited_for = given_up.clone().drop_guard();
        let each = move || {
            let terms = Terms { limit, allowed: allowed.as_ref(), is_exact, context };
            let find = |queries| collection.search_all(queries, terms);
            while_waited_for(&given_up, queries.chunks(collection.at_once()).map(find))
        };
        run(&self.searching, permit, each).await
    }
}

/// What is found, query by query or some at once, while somebody waits for it: a batch that is given up leaves its turn to others after
/// those that it is at.
fn while_waited_for(
    given_up: &Shutdown,
    mut found: impl Iterator<Item = Result<Vec<Vec<reverie_knowledge::Hit>>, CollectionError>>,
) -> Result<Vec<Vec<Hit>>, Status> {
    let mut all = Vec::new();
    while !given_up.is_cancelled() {
        match found.next() {
            Some(found) => {
                all.extend(found.map_err(|error| refusal(&error))?.into_iter().map(convert::hits));
            }
            None => return Ok(all),
        }
    }
    Err(Status::cancelled("nobody waits for it any more"))
}

/// Measurements of the recall at a time.
const MEASUREMENTS: usize = 1;

/// Searches at a time in memory: one per core.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Searches at a time in an index. Each has memory of its own there, however small the index.
pub(crate) fn threads_of_indexes() -> usize {
    threads() + MEASUREMENTS
}

/// Does blocking work when there is a turn for it, which is over when the work ends, even if its caller has left.
async fn run<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    permit: Permit,
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let turn = Arc::clone(turns).acquire_owned().await.map_err(Refusal::internal)?;
    let in_turn = move || {
        let _turn = turn;
        work()
    };
    permit.run_blocking(in_turn).await
}

fn refusal(error: &CollectionError) -> Status {
    match error {
        CollectionError::Engine(IndexError::NoMemory) => Refusal::unavailable(error),
        // Another replica would fare no better.
        CollectionError::Milvus { .. } => Refusal::unavailable(error).of_upstream("milvus"),
        CollectionError::OutOfTime(status) => return Status::clone(status),
        CollectionError::NotExact { .. } => Refusal::mismatch(error),
        _ => Refusal::internal(error),
    }
    .into()
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
            let hits = self.search_all(context, permit, search).await?.pop().unwrap_or_default();
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
            let found = self.search_all(context, permit, search).await?;
            let results = found.into_iter().map(|hits| Hits { hits }).collect();
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
        let measured = run(&self.measuring, permit, move || {
            recall::measure(&measure, context).map_err(|error| refusal(&error))
        });
        context.within("vector", async { measured.await.map(Response::new) }).await
    }

    async fn compare(&self, request: Request<CompareRequest>) -> Result<Response<CompareResponse>, Status> {
        let context = Context::of(&request);
        let work = async {
            let permit = Permit::of(&request);
            let compare = convert::compare(request.into_inner(), &self.collections).await?;
            let collection = Arc::clone(&compare.collection);
            let similarities = run(&self.searching, permit, move || {
                let similarities = compare.collection.compare(&compare.keys, context);
                similarities.map_err(|error| refusal(&error))
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
            if request.drop_older {
                // Should this end before it is done, it is done later.
                live.reader().forget();
            }
            convert::epoch(live, request.epoch, &request.content_digest).await?;
            if request.drop_older {
                let dropped = live.reader().drop_older(live).await;
                dropped.map_err(|error| refusal(&error))?;
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
