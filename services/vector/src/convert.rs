//! From messages to what can be searched, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_proto::vector::v1;
use reverie_service_kit::{Refusal, Violations};
use tonic::Status;

use crate::collection::{Collection, Hit, UnitVector};

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
    // Before the vector itself: that of another encoder may have another length.
    if request.space_digest != collection.space_digest() {
        return Err(Refusal::mismatch(format!(
            "collection {:?} holds vectors of the encoder {}, the vector is of {:?}: deploy one bundle everywhere",
            collection.name(),
            collection.space_digest(),
            request.space_digest
        ))
        .into());
    }
    let mut violations = Violations::new();
    let limit = violations.in_range("limit", Some(request.limit), 1, 1, MAX_LIMIT);
    let query = violations.take("vector", UnitVector::new(&request.vector, collection.dimension()));
    violations.into_result()?;
    if let Some(epoch) = request.epoch
        && epoch != collection.epoch()
    {
        return Err(Refusal::mismatch(format!(
            "collection {:?} holds epoch {}, not {epoch}",
            collection.name(),
            collection.epoch()
        ))
        .into());
    }
    let Some(query) = query else { return Err(Refusal::internal("the query vector was lost").into()) };
    Ok(Search { collection: Arc::clone(collection), query, limit: limit as usize })
}

/// What was found.
pub(crate) fn response(hits: Vec<Hit>, epoch: u64) -> v1::SearchResponse {
    let hits = hits.into_iter().map(|Hit { key, score }| v1::Hit { key, score }).collect();
    v1::SearchResponse { hits, epoch }
}

/// What is known of a collection.
pub(crate) fn describe(collection: &Collection) -> v1::Collection {
    v1::Collection {
        name: collection.name().to_owned(),
        epoch: collection.epoch(),
        size: collection.size(),
        dimension: collection.dimension(),
        space_digest: collection.space_digest().to_owned(),
    }
}
