//! From messages to what can be searched, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_knowledge::epoch::Manifest;
use reverie_knowledge::{Hit, Live, UnitVector};
use reverie_proto::vector::v1;
use reverie_service_kit::{Refusal, Violations};
use roaring::RoaringBitmap;
use tonic::Status;

use crate::collection::{Collection, Reader};

/// The collections, by name.
pub(crate) type Collections = BTreeMap<String, Arc<Live<Reader>>>;

const MAX_LIMIT: u32 = 1000;
const MAX_COMPARED: usize = 256;

/// A search that can be done.
pub(crate) struct Search {
    pub(crate) collection: Arc<Collection>,
    pub(crate) query: UnitVector,
    pub(crate) limit: usize,
    /// The entries that may be found; none for all.
    pub(crate) allowed: Option<RoaringBitmap>,
}

/// A comparison that can be done.
pub(crate) struct Compare {
    pub(crate) collection: Arc<Collection>,
    pub(crate) keys: Vec<u64>,
}

/// Checks a search against the collection that it names.
pub(crate) async fn search(request: &v1::SearchRequest, collections: &Collections) -> Result<Search, Status> {
    // First: a vector for another collection may well have another length.
    let live = named(&request.collection, collections)?;
    let collection = epoch(live, request.epoch, &request.content_digest).await?;
    check_space(&collection, &request.space_digest)?;
    let mut violations = Violations::new();
    violations.in_range("limit", Some(request.limit), 1..=MAX_LIMIT);
    let limit = request.limit;
    let query = violations.take("vector", UnitVector::new(&request.vector, collection.manifest().dimension));
    let allowed = Some(&request.allowed_keys).filter(|bytes| !bytes.is_empty());
    let allowed = allowed.and_then(|bytes| {
        violations.take(
            "allowed_keys",
            RoaringBitmap::deserialize_from(&bytes[..])
                .map_err(|error| format!("must be a Roaring bitmap of 32-bit integers: {error}")),
        )
    });
    violations.into_result()?;
    let Some(query) = query else { return Err(Refusal::internal("the query vector was lost").into()) };
    Ok(Search { collection, query, limit: limit as usize, allowed })
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
    let current = live.current();
    let Manifest { name, epoch, .. } = current.manifest();
    if let Err(error) = refreshed {
        let why = format!("collection {name:?} holds epoch {epoch}; a later one cannot be loaded: {error}");
        return Err(Refusal::mismatch(why));
    }
    if let Some(asked) = asked.filter(|asked| asked != epoch) {
        return Err(Refusal::mismatch(format!("collection {name:?} holds epoch {epoch}, not {asked}")));
    }
    let found = current.content_digest();
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

/// What was found.
pub(crate) fn response(hits: Vec<Hit>, collection: &Collection) -> v1::SearchResponse {
    let hits = hits.into_iter().map(|Hit { key, score }| v1::Hit { key, score }).collect();
    let content_digest = collection.content_digest().to_owned();
    v1::SearchResponse { hits, epoch: collection.manifest().epoch, content_digest }
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
    }
}
