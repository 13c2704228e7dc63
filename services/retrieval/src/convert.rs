//! From messages to what can be searched, and back.

use std::sync::Arc;

use bytes::Bytes;
use reverie_imaging::{Encoded, format};
use reverie_knowledge::UnitVector;
use reverie_proto::knowledge::v1::{ImageDetail, MisspeltWord, Neighbour, QueryVector, RetrievalStrategy};
use reverie_proto::limits::{MAX_FOUND, MAX_NEIGHBOURS, MAX_TEXT_BYTES, SCORE};
use reverie_proto::retrieval::v1;
use reverie_proto::retrieval::v1::retrieve_request::Embed;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Refusal, Violations, ranges};
use tonic::Status;

use crate::embedding::Probe;
use crate::knowledge_base::KnowledgeBase;
use crate::naming::Misspelt;
use crate::selection::{Selection, message};
use crate::strategy::{Outcome, Retrieve, Strategy};

// Knowledge bases hold what contracts can say.
const _: () = assert!(
    reverie_knowledge::epoch::MAX_NAME_BYTES == reverie_proto::limits::MAX_KNOWLEDGE_BASE_NAME_BYTES
        && reverie_knowledge::epoch::MAX_TEXT_BYTES == MAX_TEXT_BYTES
);

/// How much of the images is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    None,
    Thumbnail,
    Original,
}

/// Checks a search of a knowledge base.
pub(crate) fn retrieve(
    request: v1::RetrieveRequest,
    knowledge_base: Arc<KnowledgeBase>,
) -> Result<(Retrieve, Detail), Status> {
    let mut violations = Violations::new();
    let has_text = !request.text.is_empty();
    let text = match request.embed {
        Some(_) if !has_text => String::new(),
        _ => violations.text("text", &request.text, MAX_TEXT_BYTES),
    };
    let strategy = strategy(&mut violations, &request, has_text);
    let detail = detail(&mut violations, request.images);
    let most = if detail == Detail::Original { MAX_NEIGHBOURS } else { MAX_FOUND };
    violations.in_range("limit", Some(request.limit), 1..=most);
    violations.in_range("minimum_score", request.minimum_score, SCORE);
    let selection = Selection::read(&mut violations, request.selection.as_ref());
    let probe = probe(&mut violations, request.embed, &knowledge_base)?;
    violations.into_result()?;
    let retrieve = Retrieve {
        knowledge_base,
        text,
        probe,
        limit: request.limit,
        strategy,
        minimum_score: request.minimum_score,
        nearest: request.nearest,
        selection,
        is_exact: request.exact,
    };
    Ok((retrieve, detail))
}

fn strategy(violations: &mut Violations, request: &v1::RetrieveRequest, has_text: bool) -> Strategy {
    ranges::known::<RetrievalStrategy>(violations, "strategy", request.strategy);
    let has_probe = request.embed.is_some();
    match request.strategy() {
        RetrievalStrategy::Bm25 => {
            let why = "must not be BM25 for an image or a vector, which have no words";
            violations.require(!has_probe, "strategy", why);
            Strategy::Bm25
        }
        RetrievalStrategy::Embedding => Strategy::Embedding,
        RetrievalStrategy::Unspecified if has_probe && !has_text => Strategy::Embedding,
        RetrievalStrategy::Hybrid if has_probe && !has_text => {
            violations.add("strategy", "must be EMBEDDING without a text");
            Strategy::Hybrid
        }
        RetrievalStrategy::Unspecified | RetrievalStrategy::Hybrid => Strategy::Hybrid,
    }
}

/// Reads how much of the images is wanted.
pub(crate) fn detail(violations: &mut Violations, images: i32) -> Detail {
    match ImageDetail::try_from(ranges::known::<ImageDetail>(violations, "images", images)) {
        Ok(ImageDetail::None) => Detail::None,
        Ok(ImageDetail::Original) => Detail::Original,
        Ok(ImageDetail::Unspecified | ImageDetail::Thumbnail) | Err(_) => Detail::Thumbnail,
    }
}

fn probe(
    violations: &mut Violations,
    embed: Option<Embed>,
    knowledge_base: &KnowledgeBase,
) -> Result<Probe, Refusal> {
    Ok(match embed {
        None => Probe::Text,
        Some(Embed::Image(image)) => {
            violations.take("image", Encoded::required(Some(&image)));
            Probe::Image(image)
        }
        Some(Embed::Vector(QueryVector { values, space_digest })) => {
            // First: a vector of another space may well have another length.
            if !space_digest.is_empty() && space_digest != knowledge_base.space_digest {
                return Err(Refusal::mismatch(format!(
                    "the vectors of the knowledge base {:?} are of the encoder {}, the query of {space_digest:?}",
                    knowledge_base.name, knowledge_base.space_digest
                )));
            }
            let vector = violations.take("vector.values", UnitVector::new(&values, knowledge_base.dimension));
            vector.map_or(Probe::Text, Probe::Vector)
        }
    })
}

/// An image of a knowledge base. The bytes are shared with it, not copied.
pub(crate) fn encoded(bytes: &Bytes) -> Image {
    Image { format: format::of(bytes).unwrap_or_default().into(), width: 0, height: 0, data: bytes.clone() }
}

/// The neighbours; `thumbnails` are their images if they are wanted in that detail.
pub(crate) fn response(
    knowledge_base: &KnowledgeBase,
    outcome: Outcome,
    detail: Detail,
    thumbnails: Vec<Image>,
) -> v1::RetrieveResponse {
    let mut thumbnails = thumbnails.into_iter();
    let neighbours = outcome.found.into_iter().filter_map(|found| {
        let entry = knowledge_base.entries.get(found.key)?;
        let image = match detail {
            Detail::None => None,
            Detail::Thumbnail => thumbnails.next(),
            Detail::Original => Some(encoded(&entry.image)),
        };
        Some(Neighbour {
            id: entry.id.clone(),
            caption: entry.caption.clone(),
            image,
            score: found.score,
            attribution: entry.attribution.clone(),
            matched_words: found.words,
            similarity: found.similarity,
            metadata: entry.metadata.iter().map(|(key, value)| (key.clone(), message(value))).collect(),
        })
    });
    v1::RetrieveResponse {
        neighbours: neighbours.collect(),
        knowledge_base: knowledge_base.name.clone(),
        epoch: knowledge_base.epoch,
        content_digest: knowledge_base.content_digest.to_string(),
        nothing_matched: !outcome.is_match,
        unmatched_words: outcome.unmatched,
        misspelt_words: outcome.misspelt.into_iter().map(misspelt).collect(),
    }
}

fn misspelt(Misspelt { word, read_as }: Misspelt) -> MisspeltWord {
    MisspeltWord { word, read_as }
}

/// What is known of a knowledge base; `default` is that of searches that name none.
pub(crate) fn describe(knowledge_base: &KnowledgeBase, default: &str) -> v1::KnowledgeBase {
    v1::KnowledgeBase {
        name: knowledge_base.name.clone(),
        epoch: knowledge_base.epoch,
        size: knowledge_base.manifest.present(),
        description: knowledge_base.manifest.description.clone(),
        content_digest: knowledge_base.content_digest.to_string(),
        is_default: knowledge_base.name == default,
        dimension: knowledge_base.dimension,
        space_digest: knowledge_base.space_digest.clone(),
    }
}
