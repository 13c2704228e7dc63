//! What the vector service promises, whatever it searches with: its own memory, or, with `REVERIE_TEST_MILVUS` set to an address, a Milvus
//! (`cargo xtask milvus`).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reverie_knowledge::epoch::{Entry, Manifest, Metadata, NewEpoch, VectorKind, write_epoch};
use reverie_knowledge::index::build_index;
use reverie_knowledge::{Commit, Epochs};
use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_proto::vector::v1::{
    BatchSearchRequest, CompareRequest, ListCollectionsRequest, MeasureRecallRequest, PrepareRequest,
    SearchRequest, SearchResponse, Vector,
};
use reverie_service_kit::client::{Channel, Upstream};
use reverie_service_kit::settings::{Sources, load};
use reverie_service_kit::{Address, Listener, RunError, Shutdown};
use reverie_storage::Folder;
use reverie_vector::{Settings, run};
use roaring::RoaringBitmap;
use tokio::task::{JoinHandle, JoinSet};
use tonic::{Code, Status};

/// Names the Milvus to search in.
const MILVUS: &str = "REVERIE_TEST_MILVUS";

/// How a test wants to be searched.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// Every vector is compared.
    Exactly,
    /// Along a graph; exact searches can be asked for.
    ByGraph,
}

fn settings(location: &str, how: How) -> Settings {
    let exact_mib = if how == How::Exactly { 64 } else { 0 };
    let mut overrides = vec![
        ("knowledge_bases.creatures".to_owned(), "\"\"".to_owned()),
        ("knowledge_bases.shapes".to_owned(), format!("{location:?}")),
        ("search.exact_mib".to_owned(), exact_mib.to_string()),
    ];
    if let Ok(milvus) = std::env::var(MILVUS) {
        static TESTS: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test_{}_{}", std::process::id(), TESTS.fetch_add(1, Ordering::Relaxed));
        let index = if how == How::Exactly { "FLAT" } else { "HNSW" };
        let own = [("address", milvus), ("prefix", prefix), ("index", index.to_owned())];
        overrides.extend(own.map(|(key, value)| (format!("milvus.{key}"), format!("{value:?}"))));
    }
    load(&Sources { overrides: overrides.into_iter().collect(), ..Sources::default() }).unwrap()
}

/// Whether vectors are in this process's memory.
fn in_memory() -> bool {
    std::env::var_os(MILVUS).is_none()
}

/// Writes epoch 7 of a knowledge base "shapes" of these vectors.
async fn write(location: &str, rows: &[Vec<f32>]) {
    let dimension = rows[0].len() as u32;
    let entry = |position| Entry {
        id: format!("shape-{position}"),
        caption: format!("shape {position}"),
        attribution: String::new(),
        metadata: Metadata::new(),
        image: Bytes::from_static(b"picture"),
    };
    let epoch = NewEpoch {
        name: "shapes".to_owned(),
        description: "shapes".to_owned(),
        epoch: 7,
        dimension,
        kind: VectorKind::F32,
        space_digest: "a".repeat(64),
        entries: (0..rows.len()).map(entry).collect(),
        vectors: build_index(dimension, VectorKind::F32, rows, 1).unwrap(),
    };
    write_epoch(&Folder::open(location).unwrap(), epoch).await.unwrap();
}

/// `count` directions that go around a circle in the first two dimensions.
fn circle(count: usize, dimension: usize) -> Vec<Vec<f32>> {
    let direction = |position: usize| {
        let angle = position as f32 / count as f32 * std::f32::consts::TAU;
        let mut row = vec![0.0; dimension];
        (row[0], row[1]) = (angle.cos(), angle.sin());
        row
    };
    (0..count).map(direction).collect()
}

#[tokio::test]
async fn searches_over_a_channel() {
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_str().unwrap();
    let rows = circle(12, 4);
    write(location, &rows).await;
    let (listener, address) = Listener::memory();
    let shutdown = Shutdown::new();
    let running = tokio::spawn(run(settings(location, How::Exactly), listener, shutdown.clone()));
    let stage = Upstream::new("vector", &address);
    let mut client = VectorServiceClient::new(stage.channel());

    let listed = client.list_collections(ListCollectionsRequest {}).await.unwrap().into_inner().collections;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), listed[0].epoch, listed[0].size), ("shapes", 7, 12));
    let good = SearchRequest {
        collection: "shapes".to_owned(),
        vector: rows[5].clone(),
        space_digest: listed[0].space_digest.clone(),
        limit: 3,
        epoch: Some(7),
        content_digest: listed[0].content_digest.clone(),
        allowed_keys: Bytes::new(),
        exact: false,
    };
    let found = client.search(good.clone()).await.unwrap().into_inner();
    assert_eq!((found.epoch, found.hits.len(), found.hits[0].key), (7, 3, 5));
    assert_eq!(found.content_digest, good.content_digest);
    assert!(client.search(SearchRequest { content_digest: String::new(), ..good.clone() }).await.is_ok());

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
        (wrong(|r| r.space_digest = "b".repeat(64)), Code::FailedPrecondition, "encoder aaaa"),
        (wrong(|r| r.content_digest = "b".repeat(64)), Code::FailedPrecondition, "same knowledge base"),
        // Of another knowledge base, so that its length says nothing.
        (
            wrong(|r| (r.content_digest, r.vector) = ("b".repeat(64), vec![1.0; 5])),
            Code::FailedPrecondition,
            "same knowledge base",
        ),
        (wrong(|r| r.epoch = Some(8)), Code::FailedPrecondition, "epoch 7"),
        (wrong(|r| r.allowed_keys = Bytes::from_static(b"nonsense")), Code::InvalidArgument, "allowed_keys"),
    ];
    for (request, code, told) in cases {
        let status = client.search(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(told), "{status}");
    }
    let allowed = |keys: &[u32]| {
        let mut bytes = Vec::new();
        RoaringBitmap::from_iter(keys).serialize_into(&mut bytes).unwrap();
        Bytes::from(bytes)
    };
    for (keys, expected) in [(&[1, 8, 99][..], &[8, 1][..]), (&[], &[])] {
        let request = SearchRequest { allowed_keys: allowed(keys), ..good.clone() };
        let found = client.search(request).await.unwrap().into_inner().hits;
        assert_eq!(found.iter().map(|hit| hit.key).collect::<Vec<_>>(), expected);
    }

    let compare = |keys: &[u64]| CompareRequest {
        collection: "shapes".to_owned(),
        keys: keys.to_vec(),
        epoch: Some(7),
        content_digest: good.content_digest.clone(),
    };
    // Twelve directions around a circle: 90, 180 and 90 degrees, and the same again.
    let compared = client.compare(compare(&[0, 3, 6, 0])).await.unwrap().into_inner();
    for (told, expected) in compared.similarities.iter().zip([0.0, -1.0, 0.0, 1.0, 0.0, -1.0]) {
        assert!((told - expected).abs() < 1e-5, "{told} is not {expected}");
    }
    assert_eq!((compared.similarities.len(), &compared.content_digest), (6, &good.content_digest));
    assert_eq!(client.compare(compare(&[5])).await.unwrap().into_inner().similarities, [0.0; 0]);
    let cases = [
        (compare(&[]), Code::InvalidArgument, "keys: must be 1 to 256"),
        (compare(&[0; 257]), Code::InvalidArgument, "keys: must be 1 to 256"),
        (compare(&[12]), Code::InvalidArgument, "keys: must be below 12"),
        (CompareRequest { epoch: Some(8), ..compare(&[0]) }, Code::FailedPrecondition, "epoch 7"),
        (CompareRequest { collection: "birds".to_owned(), ..compare(&[0]) }, Code::NotFound, "shapes"),
    ];
    for (request, code, told) in cases {
        let status = client.compare(request).await.unwrap_err();
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

/// A vector service that runs.
struct Running {
    client: VectorServiceClient<Channel>,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), RunError>>,
}

impl Running {
    fn start(settings: Settings) -> Self {
        let (listener, address) = Listener::memory();
        let shutdown = Shutdown::new();
        let ended = tokio::spawn(run(settings, listener, shutdown.clone()));
        let client = VectorServiceClient::new(Upstream::new("vector", &address).channel());
        Self { client, shutdown, ended }
    }

    /// The keys of the three entries nearest to `vector`.
    async fn nearest(&mut self, vector: &[f32]) -> Result<Vec<u64>, Status> {
        assert!(!self.ended.is_finished(), "the service ended");
        let request = SearchRequest {
            collection: "shapes".to_owned(),
            vector: vector.to_vec(),
            space_digest: "a".repeat(64),
            limit: 3,
            ..SearchRequest::default()
        };
        let found = self.client.search(request).await?.into_inner().hits;
        Ok(found.iter().map(|hit| hit.key).collect())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        drop(self.client);
        self.ended.await.unwrap().unwrap();
    }
}

/// Only of a Milvus: in memory, replicas share nothing and lose nothing.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_milvus_and_fill_it_again() {
    if in_memory() {
        return;
    }
    let [ours, theirs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let rows = circle(3000, 4);
    let same = settings(ours.path().to_str().unwrap(), How::Exactly);
    write(ours.path().to_str().unwrap(), &rows).await;
    // Both find nothing there, and write all of it.
    let mut replicas = [Running::start(same.clone()), Running::start(same.clone())];
    for replica in &mut replicas {
        let mut nearest = replica.nearest(&rows[1000]).await.unwrap();
        nearest.sort_unstable();
        assert_eq!(nearest, [999, 1000, 1001]);
    }
    // Somebody else takes the same names for another knowledge base, and drops what that does not need.
    write(theirs.path().to_str().unwrap(), &rows[..12]).await;
    let mut other = same;
    other.knowledge_bases.insert("shapes".to_owned(), theirs.path().to_str().unwrap().to_owned());
    let mut stranger = Running::start(other);
    assert_eq!(stranger.nearest(&rows[0]).await.unwrap()[0], 0);
    let prepare =
        PrepareRequest { collection: "shapes".to_owned(), drop_older: true, ..PrepareRequest::default() };
    stranger.client.prepare(prepare).await.unwrap();
    stranger.stop().await;
    let lost = replicas[0].nearest(&rows[1000]).await.unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost}");
    for replica in &mut replicas {
        // Until all is there, no search goes well.
        let found_again = async {
            loop {
                match replica.nearest(&rows[1000]).await {
                    Ok(nearest) => return nearest,
                    Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let nearest = tokio::time::timeout(Duration::from_mins(1), found_again);
        let mut nearest = nearest.await.expect("it is filled again");
        nearest.sort_unstable();
        assert_eq!(nearest, [999, 1000, 1001]);
    }
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test]
async fn a_missing_knowledge_base_is_named_and_nothing_starts() {
    let (listener, _address) = Listener::memory();
    let error = run(settings("/nowhere/shapes", How::Exactly), listener, Shutdown::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"shapes\"") && error.contains("/nowhere/shapes/manifest.json"), "{error}");
}

#[tokio::test]
async fn a_milvus_that_is_away_is_named_and_nothing_starts() {
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_str().unwrap();
    write(location, &circle(12, 4)).await;
    let (listener, _address) = Listener::memory();
    let mut settings = settings(location, How::Exactly);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    settings.milvus.address = Some(format!("http://{taken}").parse::<Address>().unwrap().into());
    let error = run(settings, listener, Shutdown::new()).await.unwrap_err().to_string();
    assert!(error.contains("\"shapes\"") && error.contains("Milvus: looking for a collection"), "{error}");
}

/// A world of vectors, drawn from a seed.
struct Draw(u64);

impl Draw {
    /// splitmix64.
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A sum of twelve uniform numbers is normal enough.
    fn direction(&mut self, dimension: usize) -> Vec<f32> {
        let mut normal = || (0..12).map(|_| (self.bits() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum();
        unit(std::iter::repeat_with(&mut normal).take(dimension).collect())
    }

    /// A direction at about the angle `spread` from `center`.
    fn near(&mut self, center: &[f32], spread: f32) -> Vec<f32> {
        let away = self.direction(center.len());
        unit(center.iter().zip(away).map(|(center, away)| center + spread * away).collect())
    }
}

fn unit(row: Vec<f32>) -> Vec<f32> {
    let length = dot(&row, &row).sqrt();
    row.into_iter().map(|value| value / length).collect()
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// The share of the `LIMIT` best entries that the service finds for queries of all kinds, on average. Scores decide: of equal
/// vectors one is as good as another.
async fn recall(rows: &[Vec<f32>], how: How, draw: &mut Draw) -> f64 {
    const LIMIT: usize = 10;
    const QUERIES: usize = 60;
    let dimension = rows[0].len();
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_str().unwrap();
    write(location, rows).await;
    let (listener, address) = Listener::memory();
    let shutdown = Shutdown::new();
    let running = tokio::spawn(run(settings(location, how), listener, shutdown.clone()));
    let mut client = VectorServiceClient::new(Upstream::new("vector", &address).channel());
    let mut found = 0;
    for query in 0..QUERIES {
        let vector = match query % 3 {
            0 => draw.direction(dimension),
            // Beside an entry of the crowd, and of the others.
            1 => draw.near(&rows[0], 0.3),
            _ => {
                let other = rows.len() - 1 - draw.below(500);
                draw.near(&rows[other], 0.3)
            }
        };
        let mut scores: Vec<f32> = rows.iter().map(|row| dot(row, &vector)).collect();
        scores.sort_by(|one, other| other.total_cmp(one));
        let request = SearchRequest {
            collection: "shapes".to_owned(),
            vector: vector.clone(),
            space_digest: "a".repeat(64),
            limit: LIMIT as u32,
            ..SearchRequest::default()
        };
        let hits = client.search(request).await.unwrap().into_inner().hits;
        assert_eq!(hits.len(), LIMIT);
        let keys: BTreeSet<u64> = hits.iter().map(|hit| hit.key).collect();
        assert_eq!(keys.len(), LIMIT, "an entry is found once");
        for hit in &hits {
            let true_score = dot(&rows[hit.key as usize], &vector);
            assert!((hit.score - true_score).abs() < 1e-4, "{} {true_score}", hit.score);
            found += usize::from(true_score > scores[LIMIT - 1] - 1e-5);
        }
    }
    shutdown.cancel();
    drop(client);
    running.await.unwrap().unwrap();
    found as f64 / (QUERIES * LIMIT) as f64
}

/// `alike` entries about one direction, at the angle `spread` from it, then others.
fn crowd(draw: &mut Draw, alike: usize, others: usize, dimension: usize, spread: f32) -> Vec<Vec<f32>> {
    let center = draw.direction(dimension);
    let mut rows: Vec<_> = (0..alike).map(|_| draw.near(&center, spread)).collect();
    rows.extend((0..others).map(|_| draw.direction(dimension)));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_equal_vectors_hide_no_other() {
    // More entries than a size at which exact search costs too much, whatever the settings.
    let mut draw = Draw(1);
    let rows = crowd(&mut draw, 9000, 1001, 16, 0.0);
    assert!((recall(&rows, How::Exactly, &mut draw).await - 1.0).abs() < 1e-9);
    for (seed, dimension) in [(2, 16), (3, 64), (4, 128)] {
        let mut draw = Draw(seed);
        let rows = crowd(&mut draw, 3000, 1000, dimension, 0.0);
        let by_graph = recall(&rows, How::ByGraph, &mut draw).await;
        assert!(by_graph > 0.98, "seed {seed}, dimension {dimension}: {by_graph}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_groups_of_equal_vectors_are_found() {
    for (seed, dimension) in [(5, 16), (6, 64)] {
        let mut draw = Draw(seed);
        let pictures: Vec<_> = (0..200).map(|_| draw.direction(dimension)).collect();
        let mut rows: Vec<_> = (0..3000).map(|_| pictures[draw.below(200)].clone()).collect();
        rows.extend((0..1000).map(|_| draw.direction(dimension)));
        let by_graph = recall(&rows, How::ByGraph, &mut draw).await;
        assert!(by_graph > 0.98, "seed {seed}, dimension {dimension}: {by_graph}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nearly_equal_vectors_hide_few_others() {
    for (seed, dimension, spread) in [(7, 16, 0.001), (8, 64, 0.001), (9, 64, 0.3)] {
        let mut draw = Draw(seed);
        let rows = crowd(&mut draw, 2000, 1000, dimension, spread);
        assert!(
            (recall(&rows, How::Exactly, &mut draw).await - 1.0).abs() < 1e-9,
            "exact search misses nothing"
        );
        let by_graph = recall(&rows, How::ByGraph, &mut draw).await;
        assert!(by_graph > 0.95, "seed {seed}, dimension {dimension}, spread {spread}: {by_graph}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_as_many_searches_and_what_a_graph_misses_is_measured() {
    let mut draw = Draw(11);
    let rows = crowd(&mut draw, 500, 1500, 16, 0.3);
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_str().unwrap();
    write(location, &rows).await;
    let (listener, address) = Listener::memory();
    let shutdown = Shutdown::new();
    // Along the graph, unless a search is to be exact; Milvus has one way for all searches.
    let how = if in_memory() { How::ByGraph } else { How::Exactly };
    let running = tokio::spawn(run(settings(location, how), listener, shutdown.clone()));
    let mut client = VectorServiceClient::new(Upstream::new("vector", &address).channel());
    let queries: Vec<Vec<f32>> = (0..40).map(|_| draw.direction(16)).collect();
    let batch = BatchSearchRequest {
        collection: "shapes".to_owned(),
        vectors: queries.iter().map(|query| Vector { values: query.clone() }).collect(),
        space_digest: "a".repeat(64),
        limit: 10,
        exact: true,
        ..BatchSearchRequest::default()
    };
    let together = client.batch_search(batch.clone()).await.unwrap().into_inner();
    assert_eq!((together.results.len(), together.epoch), (queries.len(), 7));
    for (query, hits) in queries.iter().zip(&together.results) {
        let request = SearchRequest {
            collection: "shapes".to_owned(),
            vector: query.clone(),
            space_digest: "a".repeat(64),
            limit: 10,
            exact: true,
            ..SearchRequest::default()
        };
        let alone = client.search(request).await.unwrap().into_inner();
        assert_eq!(alone.hits.len(), hits.hits.len());
        for (alone, hit) in alone.hits.iter().zip(&hits.hits) {
            // Kernels for several vectors may sum in another order.
            assert!(alone.key == hit.key && (alone.score - hit.score).abs() < 1e-6, "{alone:?}, {hit:?}");
        }
        let mut nearest: Vec<u64> = (0..rows.len() as u64).collect();
        nearest.sort_by(|&one, &other| {
            dot(&rows[other as usize], query).total_cmp(&dot(&rows[one as usize], query))
        });
        let found: Vec<u64> = hits.hits.iter().map(|hit| hit.key).collect();
        assert_eq!(found, nearest[..10], "an exact search misses nothing");
    }
    let wrong = |change: fn(&mut BatchSearchRequest)| {
        let mut request = batch.clone();
        change(&mut request);
        request
    };
    for (request, told) in [
        (wrong(|request| request.vectors.clear()), "vectors: must be 1 to 256 vectors"),
        (wrong(|request| request.vectors = vec![request.vectors[0].clone(); 257]), "(got 257 vectors)"),
        (
            wrong(|request| (request.vectors, request.limit) = (vec![request.vectors[0].clone(); 101], 1000)),
            "100000",
        ),
        (wrong(|request| request.vectors[3].values.clear()), "vectors[3]: must have 16 elements"),
    ] {
        let status = client.batch_search(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(told), "{status}");
    }

    let measure = MeasureRecallRequest { collection: "shapes".to_owned(), queries: Some(50), limit: None };
    let measured = client.measure_recall(measure.clone()).await.unwrap().into_inner();
    assert_eq!((measured.queries, measured.epoch), (50, 7));
    assert!(measured.recall > 0.9 && measured.recall <= 1.0, "{measured:?}");
    assert!(measured.search_milliseconds > 0.0 && measured.exact_milliseconds > 0.0, "{measured:?}");
    for wrong in [
        MeasureRecallRequest { queries: Some(0), ..measure.clone() },
        MeasureRecallRequest { limit: Some(1001), ..measure.clone() },
    ] {
        assert_eq!(client.measure_recall(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // As many as there are places, on however few cores, beside a measurement: nobody is sent away.
    let measuring = tokio::spawn({
        let (mut client, measure) = (client.clone(), measure.clone());
        async move { client.measure_recall(measure).await }
    });
    let mut at_once = JoinSet::new();
    for _ in 0..62 {
        let (mut client, batch) = (client.clone(), batch.clone());
        at_once.spawn(async move { client.batch_search(batch).await });
    }
    while let Some(answer) = at_once.join_next().await {
        assert_eq!(answer.unwrap().unwrap().into_inner().results, together.results);
    }
    measuring.await.unwrap().unwrap();
    let listed = client.list_collections(ListCollectionsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.collections[0].vectors, "f32");
    let here = listed.collections[0].memory_bytes > 2000 * 16 * 4;
    assert_eq!(here, in_memory(), "{}", listed.collections[0].memory_bytes);
    shutdown.cancel();
    drop(client);
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_loaded_when_it_is_asked_for_and_what_it_deletes_is_not_found() {
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_str().unwrap();
    let rows = circle(12, 4);
    write(location, &rows).await;
    let (listener, address) = Listener::memory();
    let shutdown = Shutdown::new();
    let mut settings = settings(location, How::Exactly);
    // Nobody but a caller tells it of a later epoch.
    settings.epochs.refresh_ms = 0;
    let running = tokio::spawn(run(settings, listener, shutdown.clone()));
    let mut client = VectorServiceClient::new(Upstream::new("vector", &address).channel());
    // It has loaded the first epoch before there is another one.
    client.list_collections(ListCollectionsRequest {}).await.unwrap();
    let epochs = Epochs::new(Folder::open(location).unwrap());
    let first = epochs.latest().await.unwrap();
    let mut next = first.clone();
    let gone = RoaringBitmap::from_iter([4, 5]);
    next.segments[0].delete(epochs.folder(), 8, &gone, BTreeSet::new()).await.unwrap();
    (next.epoch, next.schema) = (8, 4);
    assert_eq!(epochs.commit(&next, &first).await.unwrap(), Commit::Stored);

    let search = |digest: String, exact| SearchRequest {
        collection: "shapes".to_owned(),
        vector: circle(12, 4)[5].clone(),
        space_digest: "a".repeat(64),
        limit: 3,
        content_digest: digest,
        exact,
        ..SearchRequest::default()
    };
    let keys = |found: tonic::Response<SearchResponse>| {
        let mut keys: Vec<u64> = found.into_inner().hits.into_iter().map(|hit| hit.key).collect();
        keys.sort_unstable();
        keys
    };
    // In whichever order they are asked for.
    for exact in [false, true] {
        assert_eq!(keys(client.search(search(next.content_digest(), exact)).await.unwrap()), [3, 6, 7]);
        assert_eq!(keys(client.search(search(first.content_digest(), exact)).await.unwrap()), [4, 5, 6]);
        assert_eq!(keys(client.search(search(String::new(), exact)).await.unwrap()), [3, 6, 7]);
    }
    let allowed = |keys: &[u32]| {
        let mut bytes = Vec::new();
        RoaringBitmap::from_iter(keys).serialize_into(&mut bytes).unwrap();
        SearchRequest { allowed_keys: bytes.into(), ..search(String::new(), false) }
    };
    assert_eq!(keys(client.search(allowed(&[4, 5, 6])).await.unwrap()), [6], "not even if it is allowed");
    let prepare = |content_digest, drop_older| PrepareRequest {
        collection: "shapes".to_owned(),
        content_digest,
        drop_older,
        epoch: None,
    };
    assert_eq!(client.prepare(prepare(first.content_digest(), false)).await.unwrap().into_inner().epoch, 8);
    client.prepare(prepare(next.content_digest(), true)).await.unwrap();
    let gone = client.search(search(first.content_digest(), false)).await.unwrap_err();
    assert_eq!(gone.code(), Code::FailedPrecondition, "{gone}");
    let never = client.prepare(prepare("b".repeat(64), false)).await.unwrap_err();
    assert_eq!(never.code(), Code::FailedPrecondition, "{never}");
    // Of two that come at once, the one before the last can be asked for by its number.
    let mut between = next.clone();
    let gone = RoaringBitmap::from_iter([4]);
    between.segments[0].delete(epochs.folder(), 9, &gone, BTreeSet::new()).await.unwrap();
    between.epoch = 9;
    assert_eq!(epochs.commit(&between, &next).await.unwrap(), Commit::Stored);
    let last = Manifest { epoch: 10, ..next.clone() };
    assert_eq!(epochs.commit(&last, &between).await.unwrap(), Commit::Stored);
    assert_eq!(keys(client.search(search(next.content_digest(), false)).await.unwrap()), [3, 6, 7]);
    let request = PrepareRequest { epoch: Some(9), ..prepare(between.content_digest(), false) };
    assert_eq!(client.prepare(request).await.unwrap().into_inner().epoch, 10);
    let request = SearchRequest { epoch: Some(9), ..search(between.content_digest(), false) };
    assert_eq!(keys(client.search(request).await.unwrap()), [3, 5, 6]);
    shutdown.cancel();
    drop(client);
    running.await.unwrap().unwrap();
}
