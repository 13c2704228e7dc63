//! Entries, and the lines of `entries.jsonl` that hold them.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::texts::{check_attribution, check_caption, check_id};

/// A picture worth remembering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Identifier within the knowledge base; see [`check_id`](super::check_id).
    pub id: String,
    /// What the picture shows; see [`check_caption`](super::check_caption).
    pub caption: String,
    /// Whom to credit; may be empty. See [`check_attribution`](super::check_attribution).
    pub attribution: String,
    /// The encoded picture.
    pub image: Bytes,
}

/// A line of `entries.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) caption: String,
    pub(super) attribution: String,
    pub(super) image: Span,
}

/// Where a picture lies in the pack, bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What is wrong with the entries of an epoch, when it is written and when it is read: what is accepted here ends up in other
/// people's requests.
pub(super) fn check_entries(entries: &[Entry]) -> Result<(), String> {
    let mut ids = HashSet::with_capacity(entries.len());
    for (position, entry) in entries.iter().enumerate() {
        check_id(&entry.id).map_err(|why| format!("entry {position}: {why}"))?;
        let wrong = |why: String| format!("entry {:?}: {why}", entry.id);
        check_caption(&entry.caption).map_err(wrong)?;
        check_attribution(&entry.attribution).map_err(wrong)?;
        if !ids.insert(&entry.id) {
            return Err(wrong("its id occurs twice".to_owned()));
        }
        if entry.image.is_empty() {
            return Err(wrong("it has no picture".to_owned()));
        }
    }
    if entries.is_empty() { Err("there are no entries".to_owned()) } else { Ok(()) }
}
