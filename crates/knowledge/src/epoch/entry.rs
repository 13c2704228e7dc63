//! Entries, and the lines of `entries.jsonl` that hold them.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::metadata::{Metadata, bytes_of, check_metadata};
use super::texts::{check_attribution, check_caption, check_id};

/// An image with its caption, as a knowledge base keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Identifier within the knowledge base; see [`check_id`](super::check_id).
    pub id: String,
    /// What the picture shows; see [`check_caption`](super::check_caption).
    pub caption: String,
    /// Whom to credit; may be empty. See [`check_attribution`](super::check_attribution).
    pub attribution: String,
    /// What else is said of it; see [`check_metadata`](super::check_metadata).
    pub metadata: Metadata,
    /// The encoded picture.
    pub image: Bytes,
}

/// What is said of a picture: an entry without it.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// See [`Entry::id`].
    pub id: String,
    /// See [`Entry::caption`].
    pub caption: String,
    /// See [`Entry::attribution`].
    pub attribution: String,
    /// See [`Entry::metadata`].
    pub metadata: Metadata,
}

impl Entry {
    /// Bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let Self { id, caption, attribution, metadata, .. } = self;
        id.len() + caption.len() + attribution.len() + bytes_of(metadata)
    }

    /// What is said of the picture, and the picture.
    pub(super) fn into_parts(self) -> (Label, Bytes) {
        let Self { id, caption, attribution, metadata, image } = self;
        (Label { id, caption, attribution, metadata }, image)
    }
}

/// A line of `entries.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) caption: String,
    pub(super) attribution: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(super) metadata: Metadata,
    pub(super) image: Span,
}

/// Where a picture lies in the pack, bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What is wrong with the entries of an epoch that is read.
pub(super) fn check_entries(entries: &[Entry]) -> Result<(), String> {
    check_said(entries.iter().map(|entry| (&entry.id, &entry.caption, &entry.attribution, &entry.metadata)))?;
    entries.iter().try_for_each(|Entry { id, image, .. }| check_image(id, image))
}

/// What is wrong with the entries of an epoch that is to be written, without their pictures.
pub(super) fn check_labels(labels: &[Label]) -> Result<(), String> {
    check_said(labels.iter().map(|label| (&label.id, &label.caption, &label.attribution, &label.metadata)))
}

/// What is wrong with the picture of an entry.
pub(super) fn check_image(id: &str, image: &Bytes) -> Result<(), String> {
    if image.is_empty() { Err(format!("entry {id:?}: it has no picture")) } else { Ok(()) }
}

/// Checks ids, captions, attributions and metadata, when an epoch is written and when it is read: what is accepted here ends up in other
/// people's requests.
fn check_said<'a>(
    said: impl ExactSizeIterator<Item = (&'a String, &'a String, &'a String, &'a Metadata)>,
) -> Result<(), String> {
    if said.len() == 0 {
        return Err("there are no entries".to_owned());
    }
    let mut ids = HashSet::with_capacity(said.len());
    for (position, (id, caption, attribution, metadata)) in said.enumerate() {
        check_id(id).map_err(|why| format!("entry {position}: {why}"))?;
        let wrong = |why: String| format!("entry {id:?}: {why}");
        check_caption(caption).map_err(wrong)?;
        check_attribution(attribution).map_err(wrong)?;
        check_metadata(metadata).map_err(wrong)?;
        if !ids.insert(id) {
            return Err(wrong("its id occurs twice".to_owned()));
        }
    }
    Ok(())
}
