//! From messages to what can be searched, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_imaging::format;
use reverie_proto::knowledge::v1::{Neighbour, RetrievalStrategy};
use reverie_proto::limits::{MAX_NEIGHBOURS, MAX_TEXT_BYTES};
use reverie_proto::retrieval::v1;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Refusal, Violations, ranges};
use tonic::Status;

use crate::knowledge_base::KnowledgeBase;
use crate::strategy::{Outcome, Retrieve, Strategy};

/// Checks a request; `default` is the knowledge base of one that names none.
pub(crate) fn retrieve(
    request: &v1::RetrieveRequest,
    knowledge_bases: &BTreeMap<String, Arc<KnowledgeBase>>,
    default: &str,
) -> Result<Retrieve, Status> {
    let mut violations = Violations::new();
    let text = violations.text("text", &request.text, MAX_TEXT_BYTES);
    violations.in_range("limit", Some(request.limit), 1..=MAX_NEIGHBOURS);
    let limit = request.limit;
    ranges::known::<RetrievalStrategy>(&mut violations, "strategy", request.strategy);
    let strategy = match request.strategy() {
        RetrievalStrategy::Bm25 => Strategy::Bm25,
        RetrievalStrategy::Embedding => Strategy::Embedding,
        RetrievalStrategy::Unspecified | RetrievalStrategy::Hybrid => Strategy::Hybrid,
    };
    violations.in_range("minimum_score", request.minimum_score, -1.0..=1.0);
    violations.into_result()?;
    let name = if request.knowledge_base.is_empty() { default } else { &request.knowledge_base };
    let Some(knowledge_base) = knowledge_bases.get(name) else {
        let known: Vec<_> = knowledge_bases.keys().map(String::as_str).collect();
        return Err(Refusal::not_found(format!(
            "there is no knowledge base {name:?}; there is {}",
            known.join(", ")
        ))
        .into());
    };
    Ok(Retrieve {
        knowledge_base: Arc::clone(knowledge_base),
        text,
        limit,
        strategy,
        minimum_score: request.minimum_score,
        nearest: request.nearest,
    })
}

/// The neighbours with their pictures. The bytes are shared with the knowledge base, not copied.
pub(crate) fn response(knowledge_base: &KnowledgeBase, outcome: Outcome) -> v1::RetrieveResponse {
    let neighbours = outcome.found.into_iter().filter_map(|found| {
        let entry = knowledge_base.entries.get(usize::try_from(found.key).ok()?)?;
        let image = Image {
            format: format::of(&entry.image).unwrap_or_default().into(),
            width: 0,
            height: 0,
            data: entry.image.clone(),
        };
        Some(Neighbour {
            id: entry.id.clone(),
            caption: entry.caption.clone(),
            image: Some(image),
            score: found.score,
            attribution: entry.attribution.clone(),
            matched_words: found.words,
            similarity: found.similarity,
        })
    });
    v1::RetrieveResponse {
        neighbours: neighbours.collect(),
        knowledge_base: knowledge_base.name.clone(),
        epoch: knowledge_base.epoch,
        content_digest: knowledge_base.content_digest.clone(),
        nothing_matched: !outcome.is_match,
        unmatched_words: outcome.unmatched,
    }
}

/// What is known of a knowledge base; `default` is that of searches that name none.
pub(crate) fn describe(knowledge_base: &KnowledgeBase, default: &str) -> v1::KnowledgeBase {
    v1::KnowledgeBase {
        name: knowledge_base.name.clone(),
        epoch: knowledge_base.epoch,
        size: knowledge_base.entries.len() as u64,
        description: knowledge_base.description.clone(),
        content_digest: knowledge_base.content_digest.clone(),
        is_default: knowledge_base.name == default,
    }
}
