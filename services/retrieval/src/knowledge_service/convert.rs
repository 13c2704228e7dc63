//! From messages to changes, and from manifests to messages.

use std::collections::HashSet;

use reverie_imaging::{Encoded, format};
use reverie_knowledge::UnitVector;
use reverie_knowledge::epoch::{
    self, Label, Manifest, Metadata, check_attribution, check_caption, check_id, check_metadata, check_name,
};
use reverie_proto::knowledge::v1 as messages;
use reverie_proto::knowledge::v1::MetadataValue;
use reverie_proto::limits::{MAX_FOUND, MAX_NEIGHBOURS};
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Refusal, Violations};
use reverie_storage::sha256_hex;
use tonic::Status;

use crate::convert::{Detail, detail, encoded};
use crate::knowledge_base::KnowledgeBase;
use crate::selection::{message, value};

/// Most entries of a change: the most images that the encoder takes.
const MAX_STORED: usize = 64;
/// Most ids of a change.
pub(super) const MAX_DELETED: usize = 1000;

/// Checks entries that are to be stored, but for their vectors, and whether their images can be decoded.
pub(super) fn labels(entries: &[messages::Entry]) -> Result<Vec<Label>, Status> {
    let mut violations = Violations::new();
    let count = entries.len();
    violations.require(
        (1..=MAX_STORED).contains(&count),
        "entries",
        format!("must be 1 to {MAX_STORED} entries (got {count})"),
    );
    let mut ids = HashSet::new();
    let mut labels = Vec::with_capacity(count.min(MAX_STORED));
    for (place, entry) in entries.iter().take(MAX_STORED).enumerate() {
        let field = |name: &str| format!("entries[{place}].{name}");
        violations.take(field("id"), check_id(&entry.id));
        violations.require(ids.insert(&entry.id), field("id"), "must occur once");
        violations.take(field("caption"), check_caption(&entry.caption));
        violations.take(field("attribution"), check_attribution(&entry.attribution));
        violations.take(field("image"), Encoded::required(entry.image.as_ref()));
        let is_file = entry.image.as_ref().is_none_or(|image| format::of(&image.data).is_some());
        violations.require(is_file, field("image"), "must be PNG, JPEG or WebP: it is kept as it is");
        let metadata = metadata(&mut violations, &field("metadata"), entry);
        labels.push(Label {
            id: entry.id.clone(),
            caption: entry.caption.clone(),
            attribution: entry.attribution.clone(),
            metadata,
        });
    }
    violations.into_result()?;
    Ok(labels)
}

fn metadata(violations: &mut Violations, field: &str, entry: &messages::Entry) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, given) in &entry.metadata {
        match value(given) {
            Some(value) => {
                metadata.insert(key.clone(), value);
            }
            None => violations.add(field, format!("{key:?} must be a text, a finite number or a flag")),
        }
    }
    violations.take(field, check_metadata(&metadata));
    metadata
}

/// Checks the vector of an entry.
pub(super) fn vector(
    violations: &mut Violations,
    place: usize,
    vector: &messages::QueryVector,
    base: &KnowledgeBase,
) -> Result<Option<Vec<f32>>, Refusal> {
    let space = &vector.space_digest;
    if !space.is_empty() && *space != base.space_digest {
        return Err(Refusal::mismatch(format!(
            "the vectors of the knowledge base {:?} are of the encoder {}, that of entries[{place}] of {space:?}",
            base.name, base.space_digest
        )));
    }
    let unit = UnitVector::new(&vector.values, base.dimension);
    let unit = violations.take(format!("entries[{place}].vector.values"), unit);
    Ok(unit.map(|unit| unit.values().to_vec()))
}

/// The caller's field for one of the encoder's, which sees the images of the entries at `places`.
pub(super) fn own_field(field: &str, places: &[usize]) -> Option<String> {
    let (number, rest) = field.strip_prefix("images[")?.split_once(']')?;
    let place = places.get(number.parse::<usize>().ok()?)?;
    Some(format!("entries[{place}].image{rest}"))
}

/// Checks ids, of which there may be `most`.
pub(super) fn check_ids(ids: &[String], most: usize) -> Result<(), Status> {
    let mut violations = Violations::new();
    let count = ids.len();
    violations.require((1..=most).contains(&count), "ids", format!("must be 1 to {most} ids (got {count})"));
    for (place, id) in ids.iter().take(most).enumerate() {
        violations.take(format!("ids[{place}]"), check_id(id));
    }
    violations.into_result()
}

/// Checks what entries are asked for.
pub(super) fn wanted(request: &messages::BatchGetEntriesRequest) -> Result<Detail, Status> {
    let mut violations = Violations::new();
    let detail = detail(&mut violations, request.images);
    violations.into_result()?;
    let most = if detail == Detail::Original { MAX_NEIGHBOURS } else { MAX_FOUND };
    check_ids(&request.ids, most as usize)?;
    Ok(detail)
}

/// Checks the name of a snapshot.
pub(super) fn check_snapshot(name: &str) -> Result<(), Status> {
    let mut violations = Violations::new();
    violations.take("snapshot", check_name(name));
    violations.into_result()
}

/// The entries of these keys; `thumbnails` are their images if they are wanted in that detail. Blocking: their images are hashed.
pub(super) fn entries(
    base: &KnowledgeBase,
    keys: &[u64],
    detail: Detail,
    thumbnails: Vec<Image>,
) -> Vec<messages::Entry> {
    let mut thumbnails = thumbnails.into_iter();
    let entries = keys.iter().filter_map(|&key| {
        let entry = base.entries.get(key)?;
        let image = match detail {
            Detail::None => None,
            Detail::Thumbnail => thumbnails.next(),
            Detail::Original => Some(encoded(&entry.image)),
        };
        let metadata: std::collections::HashMap<String, MetadataValue> =
            entry.metadata.iter().map(|(key, value)| (key.clone(), message(value))).collect();
        Some(messages::Entry {
            id: entry.id.clone(),
            caption: entry.caption.clone(),
            image,
            attribution: entry.attribution.clone(),
            metadata,
            vector: None,
            image_sha256: sha256_hex(&entry.image),
        })
    });
    entries.collect()
}

/// What is told of an epoch.
pub(super) fn epoch(manifest: &Manifest) -> messages::Epoch {
    messages::Epoch {
        number: manifest.epoch,
        content_digest: manifest.content_digest(),
        size: manifest.present(),
    }
}

/// What is told of a snapshot.
pub(super) fn snapshot(name: &str, snapshot: &epoch::Snapshot) -> messages::Snapshot {
    messages::Snapshot {
        name: name.to_owned(),
        epoch: snapshot.epoch,
        size: snapshot.segments.iter().map(epoch::Segment::present).sum(),
    }
}

/// What is told of a knowledge base.
pub(super) fn describe(manifest: &Manifest, is_writable: bool) -> messages::GetKnowledgeBaseResponse {
    let segment = |segment: &epoch::Segment| messages::Segment {
        name: segment.name.clone(),
        size: segment.present(),
        deleted: segment.entries - segment.present(),
        size_bytes: segment.all_files().map(|file| file.size_bytes).sum(),
        is_forgetting: segment.to_forget().next().is_some(),
    };
    messages::GetKnowledgeBaseResponse {
        name: manifest.name.clone(),
        description: manifest.description.clone(),
        epoch: Some(epoch(manifest)),
        dimension: manifest.dimension,
        space_digest: manifest.space_digest.clone(),
        is_writable,
        segments: manifest.segments.iter().map(segment).collect(),
        snapshots: manifest.snapshots.iter().map(|(name, of)| snapshot(name, of)).collect(),
        vectors: manifest.vectors.name().to_owned(),
        vector_memory_bytes: None,
        recall: None,
    }
}
