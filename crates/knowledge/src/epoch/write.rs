//! Writing an epoch.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};

use super::Manifest;
use super::entry::{Entry, Label, Line, Span, check_image, check_labels};
use super::manifest::{MANIFEST, SCHEMA_WITH_DELETIONS};
use super::segment::{Part, Segment, Vectors, encode_keys};
use super::vector_kind::VectorKind;
use reverie_storage::{FileDigest, Folder, StorageError};

const FIRST_SEGMENT: &str = "000001";

/// An epoch to be written; its entries are with or without their pictures.
#[derive(Debug, Clone)]
pub struct NewEpoch<T = Entry> {
    /// See [`Manifest::name`].
    pub name: String,
    /// See [`Manifest::description`].
    pub description: String,
    /// See [`Manifest::epoch`].
    pub epoch: u64,
    /// See [`Manifest::dimension`].
    pub dimension: u32,
    /// See [`Manifest::space_digest`].
    pub space_digest: String,
    /// The entries; at least one.
    pub entries: Vec<T>,
    /// What their vectors are stored as.
    pub kind: VectorKind,
    /// The entries' vectors.
    pub vectors: Vectors,
}

/// Writes an epoch into `folder`, the manifest last: readers see all of it or nothing. Nothing is overwritten.
pub async fn write_epoch(folder: &Folder, epoch: NewEpoch) -> Result<Manifest, StorageError> {
    let NewEpoch { name, description, epoch, dimension, space_digest, entries, kind, vectors } = epoch;
    let (entries, images): (Vec<_>, Vec<_>) = entries.into_iter().map(Entry::into_parts).unzip();
    let epoch = NewEpoch { name, description, epoch, dimension, space_digest, entries, kind, vectors };
    write_epoch_from(folder, epoch, None, stream::iter(images.into_iter().map(Ok))).await
}

/// The same with pictures that come one after another, in the order of the entries: only a few of them are in memory at a time; and with
/// what was worked out of the captions.
pub async fn write_epoch_from<E: From<StorageError>>(
    folder: &Folder,
    epoch: NewEpoch<Label>,
    captions: Option<Bytes>,
    images: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Manifest, E> {
    let NewEpoch { name, description, epoch, dimension, space_digest, entries: labels, kind, vectors } =
        epoch;
    let has_metadata = labels.iter().any(|label| !label.metadata.is_empty());
    // Checked before anything is written; the segment comes afterwards.
    let mut manifest = without_segments(folder, name, description, epoch, dimension, kind, space_digest)?;
    manifest.segments.push(write_segment(folder, FIRST_SEGMENT, labels, captions, vectors, images).await?);
    manifest.schema = manifest.lowest_schema(has_metadata);
    write_manifest(folder, &manifest).await?;
    Ok(manifest)
}

/// Writes the manifest of the first epoch, which has no entries yet.
pub async fn write_empty(
    folder: &Folder,
    name: String,
    description: String,
    dimension: u32,
    kind: VectorKind,
    space_digest: String,
) -> Result<Manifest, StorageError> {
    let manifest = without_segments(folder, name, description, 1, dimension, kind, space_digest)?;
    write_manifest(folder, &manifest).await?;
    Ok(manifest)
}

/// A manifest, checked, of an epoch without entries.
fn without_segments(
    folder: &Folder,
    name: String,
    description: String,
    epoch: u64,
    dimension: u32,
    vectors: VectorKind,
    space_digest: String,
) -> Result<Manifest, StorageError> {
    let manifest = Manifest {
        schema: SCHEMA_WITH_DELETIONS,
        name,
        description,
        epoch,
        oldest: 0,
        dimension,
        vectors,
        space_digest,
        segments: Vec::new(),
        merged: BTreeSet::new(),
        snapshots: BTreeMap::new(),
    };
    manifest.check().map_err(|why| StorageError::content(folder.describe(MANIFEST), why))?;
    Ok(manifest)
}

async fn write_manifest(folder: &Folder, manifest: &Manifest) -> Result<(), StorageError> {
    let bytes = manifest.to_bytes();
    let bytes = bytes.map_err(|error| StorageError::content(folder.describe(MANIFEST), error.to_string()))?;
    folder.create(MANIFEST, bytes).await
}

/// Writes the files of a segment of that name: entries in the order of `labels`, of which there is at least one, their pictures in the
/// same order, their vectors and, if it is given, what was worked out of their captions. No manifest names it yet.
pub async fn write_segment<E: From<StorageError>>(
    folder: &Folder,
    name: &str,
    labels: Vec<Label>,
    captions: Option<Bytes>,
    vectors: Vectors,
    images: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Segment, E> {
    let wrong = |why: String| StorageError::content(folder.location(), why);
    check_labels(&labels).map_err(wrong)?;
    let count = labels.len() as u64;
    let mut spans: Vec<Span> = Vec::with_capacity(labels.len());
    let images = images.map(|image: Result<Bytes, E>| -> Result<Bytes, E> {
        let image = image?;
        let label = labels
            .get(spans.len())
            .ok_or_else(|| wrong("there are more pictures than entries".to_owned()))?;
        check_image(&label.id, &image).map_err(wrong)?;
        let offset = spans.last().map_or(0, |last| last.offset + last.length);
        spans.push(Span { offset, length: image.len() as u64 });
        Ok(image)
    });
    let pack = folder.create_from(&Part::Images.path(name), images).await?;
    if spans.len() < labels.len() {
        return Err(wrong("there are fewer pictures than entries".to_owned()).into());
    }
    let entries = Part::Entries.path(name);
    let lines = lines(labels, spans)
        .map_err(|error| StorageError::content(folder.describe(&entries), error.to_string()))?;
    let Vectors { index, keys } = vectors;
    let keys = keys.map(|keys| (Part::Keys, encode_keys(&keys)));
    let captions = captions.map(|captions| (Part::Captions, captions));
    let mut files = vec![pack];
    for (part, bytes) in
        [(Part::Entries, lines), (Part::Index, index)].into_iter().chain(keys).chain(captions)
    {
        let file = FileDigest::of(part.path(name), &bytes);
        folder.create(&file.path, bytes).await?;
        files.push(file);
    }
    files.sort_by_key(|file| Part::ALL.iter().position(|part| part.path(name) == file.path));
    Ok(Segment { name: name.to_owned(), entries: count, deleted: None, files })
}

/// The lines of `entries.jsonl`.
fn lines(labels: Vec<Label>, spans: Vec<Span>) -> Result<Bytes, serde_json::Error> {
    let mut lines = Vec::new();
    for (Label { id, caption, attribution, metadata }, image) in labels.into_iter().zip(spans) {
        serde_json::to_writer(&mut lines, &Line { id, caption, attribution, metadata, image })?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}
