//! From messages to what can be searched, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_knowledge::epoch::Manifest;
use reverie_knowledge::index::{Hit, UnitVector};
use reverie_proto::vector::v1;
use reverie_service_kit::{Refusal, Violations};
use tonic::Status;

use crate::collection::Collection;

const MAX_LIMIT: u32 = 1000;

/// A search that can be done.
pub(crate) struct Search {
    pub(crate) collection: Arc<Collection>,
    pub(crate) query: UnitVector,
    pub(crate) limit: usize,
}

/// Checks a search against the collection that it names.
pub(crate) fn search(
    request: &v1::SearchRequest,
    collections: &BTreeMap<String, Arc<Collection>>,
) -> Result<Search, Status> {
    let Some(collection) = collections.get(&request.collection) else {
        let known: Vec<_> = collections.keys().map(String::as_str).collect();
        return Err(Refusal::not_found(format!(
            "there is no collection {:?}; there is {}",
            request.collection,
            known.join(", ")
        ))
        .into());
    };
    // First: a vector for another collection may well have another length.
    check_identity(request, collection).map_err(Refusal::mismatch)?;
    let mut violations = Violations::new();
    violations.in_range("limit", Some(request.limit), 1..=MAX_LIMIT);
    let limit = request.limit;
    let query = violations.take("vector", UnitVector::new(&request.vector, collection.manifest().dimension));
    violations.into_result()?;
    let Some(query) = query else { return Err(Refusal::internal("the query vector was lost").into()) };
    Ok(Search { collection: Arc::clone(collection), query, limit: limit as usize })
}

/// Whether the collection is the one that the request was made for.
fn check_identity(request: &v1::SearchRequest, collection: &Collection) -> Result<(), String> {
    let Manifest { name, epoch, space_digest, .. } = collection.manifest();
    let content_digest = collection.content_digest();
    if request.epoch.is_some_and(|asked| asked != *epoch) {
        return Err(format!(
            "collection {name:?} holds epoch {epoch}, not {}",
            request.epoch.unwrap_or_default()
        ));
    }
    if !request.content_digest.is_empty() && request.content_digest != content_digest {
        return Err(format!(
            "collection {name:?} is {content_digest}, not {}: give retrieval and vector the same knowledge base",
            request.content_digest
        ));
    }
    if request.space_digest != *space_digest {
        return Err(format!(
            "the vectors of collection {name:?} are of the encoder {space_digest}, the query of {:?}",
            request.space_digest
        ));
    }
    Ok(())
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
        size: manifest.entries(),
        dimension: manifest.dimension,
        space_digest: manifest.space_digest.clone(),
        content_digest: collection.content_digest().to_owned(),
    }
}
