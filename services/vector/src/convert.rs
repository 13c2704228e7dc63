//! From messages to what can be searched, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_knowledge::epoch::Manifest;
use reverie_knowledge::{Hit, Live, UnitVector};
use reverie_proto::vector::v1;
use reverie_service_kit::{Refusal, Violations};
use roaring::RoaringBitmap;
use tonic::Status;

use crate::collection::Collection;
use crate::reader::Reader;

/// The collections, by name.
pub(crate) type Collections = BTreeMap<String, Arc<Live<Reader>>>;

const MAX_LIMIT: u32 = 1000;
const MAX_COMPARED: usize = 256;
const MAX_BATCH: usize = 256;
/// Hits of a batch.
const MAX_HITS: usize = 100_000;
/// Searches of a measurement, and what they are without being asked for.
const MAX_QUERIES: u32 = 1000;
const QUERIES: u32 = 100;
const NEAREST: u32 = 10;

/// Searches that can be done.
pub(crate) struct Search {
    pub(crate) collection: Arc<Collection>,
    pub(crate) queries: Vec<UnitVector>,
    pub(crate) limit: usize,
    /// The entries that may be found; none for all.
    pub(crate) allowed: Option<RoaringBitmap>,
    pub(crate) is_exact: bool,
}

/// A measurement that can be done.
pub(crate) struct Measure {
    pub(crate) collection: Arc<Collection>,
    pub(crate) queries: u32,
    pub(crate) limit: usize,
}

/// A comparison that can be done.
pub(crate) struct Compare {
    pub(crate) collection: Arc<Collection>,
    pub(crate) keys: Vec<u64>,
}

/// Checks a search against the collection that it names.
pub(crate) async fn search(request: v1::SearchRequest, collections: &Collections) -> Result<Search, Status> {
    let v1::SearchRequest {
        collection,
        vector,
        space_digest,
        limit,
        epoch,
        content_digest,
        allowed_keys,
        exact,
    } = request;
    let vectors = vec![v1::Vector { values: vector }];
    let batch = v1::BatchSearchRequest {
        collection,
        vectors,
        space_digest,
        limit,
        epoch,
        content_digest,
        allowed_keys,
        exact,
    };
    searches(batch, collections, |_| "vector".to_owned()).await
}

/// Checks several searches.
pub(crate) async fn batch(
    request: v1::BatchSearchRequest,
    collections: &Collections,
) -> Result<Search, Status> {
    searches(request, collections, |place| format!("vectors[{place}]")).await
}

/// `field` names the field of a vector.
async fn searches(
    request: v1::BatchSearchRequest,
    collections: &Collections,
    field: impl Fn(usize) -> String,
) -> Result<Search, Status> {
    // First: a vector for another collection may well have another length.
    let live = named(&request.collection, collections)?;
    let collection = epoch(live, request.epoch, &request.content_digest).await?;
    check_space(&collection, &request.space_digest)?;
    let mut violations = Violations::new();
    violations.in_range("limit", Some(request.limit), 1..=MAX_LIMIT);
    let (limit, count) = (request.limit as usize, request.vectors.len());
    violations.require(
        (1..=MAX_BATCH).contains(&count) && count.saturating_mul(limit) <= MAX_HITS,
        "vectors",
        format!("must be 1 to {MAX_BATCH} vectors, and at most {MAX_HITS} hits in all (got {count} vectors)"),
    );
    let dimension = collection.manifest().dimension;
    let mut queries = Vec::with_capacity(count.min(MAX_BATCH));
    for (place, vector) in request.vectors.iter().take(MAX_BATCH).enumerate() {
        queries.extend(violations.take(field(place), UnitVector::new(&vector.values, dimension)));
    }
    let allowed = Some(&request.allowed_keys).filter(|bytes| !bytes.is_empty());
    let allowed = allowed.and_then(|bytes| {
        violations.take(
            "allowed_keys",
            RoaringBitmap::deserialize_from(&bytes[..])
                .map_err(|error| format!("must be a Roaring bitmap of 32-bit integers: {error}")),
        )
    });
    violations.into_result()?;
    Ok(Search { collection, queries, limit, allowed, is_exact: request.exact })
}

/// Checks a measurement.
pub(crate) fn measure(
    request: &v1::MeasureRecallRequest,
    collections: &Collections,
) -> Result<Measure, Status> {
    let collection = current(named(&request.collection, collections)?)?;
    let mut violations = Violations::new();
    let queries = violations.in_range("queries", request.queries, 1..=MAX_QUERIES).unwrap_or(QUERIES);
    let limit = violations.in_range("limit", request.limit, 1..=MAX_LIMIT).unwrap_or(NEAREST);
    violations.into_result()?;
    if collection.manifest().present() == 0 {
        return Err(Refusal::mismatch(format!("collection {:?} is empty", request.collection)).into());
    }
    Ok(Measure { collection, queries, limit: limit as usize })
}

/// Checks a comparison against the collection that it names.
pub(crate) async fn compare(
    request: v1::CompareRequest,
    collections: &Collections,
) -> Result<Compare, Status> {
    let live = named(&request.collection, collections)?;
    let collection = epoch(live, request.epoch, &request.content_digest).await?;
    let mut violations = Violations::new();
    let (keys, entries) = (request.keys, collection.manifest().entries());
    violations.require(
        (1..=MAX_COMPARED).contains(&keys.len()),
        "keys",
        format!("must be 1 to {MAX_COMPARED} keys (got {})", keys.len()),
    );
    if let Some(key) = keys.iter().find(|&&key| key >= entries) {
        violations.add("keys", format!("must be below {entries} (got {key})"));
    }
    violations.into_result()?;
    Ok(Compare { collection, keys })
}

/// The collection of that name.
pub(crate) fn named<'a>(name: &str, collections: &'a Collections) -> Result<&'a Arc<Live<Reader>>, Refusal> {
    collections.get(name).ok_or_else(|| {
        let known: Vec<_> = collections.keys().map(String::as_str).collect();
        Refusal::not_found(format!("there is no collection {name:?}; there is {}", known.join(", ")))
    })
}

/// The epoch that is searched.
pub(crate) fn current(live: &Live<Reader>) -> Result<Arc<Collection>, Refusal> {
    let name = &live.reader().name;
    live.current().map_err(|why| Refusal::mismatch(format!("collection {name:?} cannot be searched: {why}")))
}

/// The epoch that a request was made for: the latest one, or the one of that number and content. Whoever asks for it may have heard of
/// it first.
pub(crate) async fn epoch(
    live: &Live<Reader>,
    asked: Option<u64>,
    digest: &str,
) -> Result<Arc<Collection>, Refusal> {
    let is_it = |collection: &Collection| {
        asked.is_none_or(|asked| asked == collection.manifest().epoch)
            && (digest.is_empty() || digest == collection.content_digest())
    };
    if let Some(found) = live.find(is_it) {
        return Ok(found);
    }
    let refreshed = live.refresh().await;
    if let Some(found) = live.find(is_it) {
        return Ok(found);
    }
    // Several may have come at once, of which the latest was loaded.
    let latest = current(live)?;
    if let Some(asked) = asked.filter(|asked| *asked < latest.manifest().epoch)
        && let Some(found) = live.recall(asked).await.filter(|found| is_it(found))
    {
        return Ok(found);
    }
    let Manifest { name, epoch, .. } = latest.manifest();
    if let Err(error) = refreshed {
        let why = format!("collection {name:?} holds epoch {epoch}; a later one cannot be loaded: {error}");
        return Err(Refusal::mismatch(why));
    }
    if let Some(asked) = asked.filter(|asked| asked != epoch) {
        return Err(Refusal::mismatch(format!("collection {name:?} holds epoch {epoch}, not {asked}")));
    }
    let found = latest.content_digest();
    Err(Refusal::mismatch(format!(
        "collection {name:?} is {found}, not {digest}: give retrieval and vector the same knowledge base"
    )))
}

/// Whether the query is from the space of the collection's vectors.
fn check_space(collection: &Collection, asked: &str) -> Result<(), Refusal> {
    let Manifest { name, space_digest, .. } = collection.manifest();
    if asked == space_digest {
        return Ok(());
    }
    Err(Refusal::mismatch(format!(
        "the vectors of collection {name:?} are of the encoder {space_digest}, the query of {asked:?}"
    )))
}

/// The hits of one search.
pub(crate) fn hits(hits: Vec<Hit>) -> Vec<v1::Hit> {
    hits.into_iter().map(|Hit { key, score }| v1::Hit { key, score }).collect()
}

/// What is known of a collection.
pub(crate) fn describe(collection: &Collection) -> v1::Collection {
    let manifest = collection.manifest();
    v1::Collection {
        name: manifest.name.clone(),
        epoch: manifest.epoch,
        size: manifest.present(),
        dimension: manifest.dimension,
        space_digest: manifest.space_digest.clone(),
        content_digest: collection.content_digest().to_owned(),
        memory_bytes: collection.memory_bytes(),
        vectors: manifest.vectors.name().to_owned(),
    }
}
