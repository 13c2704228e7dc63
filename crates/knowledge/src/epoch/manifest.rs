//! `manifest.json`: what an epoch holds, and its identity.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, check_entries};
use super::segment::{Part, SEGMENTS, Segment};
use super::texts::{check_description, check_name};
use super::vector_kind::VectorKind;
use crate::Epochs;
use reverie_storage::publish::{self, Publication};
use reverie_storage::{FileDigest, Folder, StorageError, sha256_hex};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(super) const SCHEMA: u32 = 1;
/// A version 1 reader would look for the vectors that are kept once.
pub(super) const SCHEMA_WITH_KEYS: u32 = 2;
/// A version 2 reader would not read the lines.
pub(super) const SCHEMA_WITH_METADATA: u32 = 3;
/// A version 3 reader would find what is deleted.
pub(super) const SCHEMA_WITH_DELETIONS: u32 = 4;
/// A version 4 writer would lose what was merged.
const SCHEMA_WITH_MERGES: u32 = 5;
pub(crate) const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Positions are of 32 bits.
const MAX_ENTRIES: u64 = u32::MAX as u64;
/// Most snapshots of a knowledge base.
pub const MAX_SNAPSHOTS: usize = 16;
const MAX_DIMENSION: u32 = 65_536;

/// `manifest.json`: what an epoch holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1, 2 if a segment has `vectors.keys`, 3 if an entry has metadata, 4 if entries are deleted, there are
    /// snapshots, vectors are not f32, there is no segment, or `oldest` is given, or 5 if something was merged.
    pub schema: u32,
    /// The knowledge base's name: 1 to 64 lower-case letters, digits and hyphens.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Grows with every change of the knowledge base. Two knowledge bases may well have the same one:
    /// [`Manifest::content_digest`] tells them apart.
    pub epoch: u64,
    /// Epochs before this one are not needed any more, and segments that came with it or before it are void ([`Manifest::is_void`])
    /// unless it or a later epoch lists them: they may be removed at any time, and no epoch may list one again. Never less than in an
    /// epoch before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oldest: u64,
    /// Length of each vector.
    pub dimension: u32,
    /// What new vectors are stored as; an index says itself what its own are.
    #[serde(default, skip_serializing_if = "VectorKind::is_default")]
    pub vectors: VectorKind,
    /// Lower-case hex SHA-256 of the joint image encoder's graph: vectors are comparable only within one such space.
    pub space_digest: String,
    /// The segments; an entry's position counts through them in this order.
    pub segments: Vec<Segment>,
    /// What was merged into it ([`merge`](crate::merge)), so that it is not merged again after it was deleted or written anew: the identities of
    /// the segments that were built apart.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub merged: BTreeSet<String>,
    /// Earlier epochs that can be restored, by name; see [`check_name`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<String, Snapshot>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An epoch that is kept beside a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// See [`Manifest::epoch`].
    pub epoch: u64,
    /// See [`Manifest::segments`].
    pub segments: Vec<Segment>,
}

impl Manifest {
    /// Reads and validates the manifest of the first epoch in `folder`.
    pub async fn read(folder: &Folder) -> Result<Self, StorageError> {
        Ok(Self::read_file(folder, MANIFEST).await?.0)
    }

    /// Reads and validates a manifest, and says what its file is.
    pub(crate) async fn read_file(folder: &Folder, path: &str) -> Result<(Self, FileDigest), StorageError> {
        let bytes = folder.read(path, MAX_MANIFEST_BYTES).await?;
        let wrong = |why| StorageError::content(folder.describe(path), why);
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        manifest.check().map_err(wrong)?;
        Ok((manifest, FileDigest::of(path, &bytes)))
    }

    /// Its bytes.
    pub(crate) fn to_bytes(&self) -> Result<Bytes, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes.into())
    }

    /// Number of entries in all segments, those that are deleted included: positions are below it.
    pub fn entries(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.entries))
    }

    /// Number of entries that are not deleted.
    pub fn present(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.present()))
    }

    /// The segments of the epoch and of its snapshots, in which some occur several times.
    pub fn all_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().chain(self.snapshots.values().flat_map(|snapshot| &snapshot.segments))
    }

    /// Whether a segment of that name, which neither this epoch nor [`Manifest::oldest`] lists, is void. One that a writer has not
    /// committed yet is not, unless epochs that came meanwhile say so: then it must be written anew.
    pub fn is_void(&self, segment: &str) -> bool {
        Segment::came_with(segment).is_some_and(|epoch| epoch <= self.oldest)
    }

    /// The lists of segments: that of the epoch, and those of its snapshots.
    pub fn lists_mut(&mut self) -> impl Iterator<Item = &mut Vec<Segment>> {
        std::iter::once(&mut self.segments)
            .chain(self.snapshots.values_mut().map(|snapshot| &mut snapshot.segments))
    }

    /// Lower-case hex SHA-256 of what the epoch holds: ids, captions, attributions, metadata, pictures, vectors, their order, their
    /// space, and which are deleted. Name, description, epoch number and snapshots do not count. Readers verify each file they use
    /// against the manifest, so two services with equal digests have the same entries at the same positions.
    pub fn content_digest(&self) -> String {
        let mut content = vec![format!("knowledge base\n{} {}", self.space_digest, self.dimension)];
        content.extend(self.segments.iter().map(|segment| {
            let digest = |part| segment.file(part).map_or("-", |file| file.sha256.as_str());
            let deleted = segment.deleted.as_ref().map(|deleted| format!(" {}", deleted.file.sha256));
            format!("{} {}{}", segment.entries, Part::OWN.map(digest).join(" "), deleted.unwrap_or_default())
        }));
        sha256_hex(content.join("\n").as_bytes())
    }

    /// What it takes to publish the latest epoch in `folder`: every file that its manifest lists, also for its snapshots, then the
    /// manifest, as that of the first epoch.
    pub async fn publication(folder: &Folder) -> Result<Publication, StorageError> {
        let (manifest, own) = Epochs::new(folder.clone()).latest_file().await?;
        let files = manifest.all_segments().flat_map(Segment::all_files);
        let files: BTreeMap<&str, &FileDigest> = files.map(|file| (file.path.as_str(), file)).collect();
        let own = publish::Manifest {
            from: own.path.clone(),
            file: FileDigest { path: MANIFEST.to_owned(), ..own },
        };
        Ok(Publication { files: files.into_values().cloned().collect(), manifests: vec![own] })
    }

    /// Reads all entries that are not deleted, with their pictures, in order of position.
    pub async fn read_entries(&self, folder: &Folder) -> Result<Vec<Entry>, StorageError> {
        let mut entries = Vec::new();
        for segment in &self.segments {
            let deleted = segment.read_deleted(folder).await?;
            let all = segment.read_entries(folder).await?.into_iter().zip(0..);
            entries.extend(all.filter(|(_, position)| !deleted.contains(*position)).map(|(entry, _)| entry));
        }
        check_entries(&entries).map_err(|why| StorageError::content(folder.location(), why))?;
        Ok(entries)
    }

    /// The lowest schema that says it all, where entries have metadata if `has_metadata` says so.
    pub fn lowest_schema(&self, has_metadata: bool) -> u32 {
        let lives = self.segments.is_empty()
            || !self.snapshots.is_empty()
            || self.vectors != VectorKind::F32
            || self.oldest > 0
            || self.segments.iter().any(|segment| segment.deleted.is_some());
        if !self.merged.is_empty() {
            SCHEMA_WITH_MERGES
        } else if lives {
            SCHEMA_WITH_DELETIONS
        } else if has_metadata {
            SCHEMA_WITH_METADATA
        } else if self.segments.iter().any(|segment| segment.file(Part::Keys).is_some()) {
            SCHEMA_WITH_KEYS
        } else {
            SCHEMA
        }
    }

    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(SCHEMA..=SCHEMA_WITH_MERGES).contains(&self.schema) {
            return Err(format!(
                "its schema is {}, this version reads {SCHEMA} to {SCHEMA_WITH_MERGES}",
                self.schema
            ));
        }
        if !self.merged.is_empty() && self.schema < SCHEMA_WITH_MERGES {
            return Err(format!("what was merged is told from schema {SCHEMA_WITH_MERGES} on"));
        }
        check_name(&self.name)?;
        check_description(&self.description)?;
        if !(1..=MAX_DIMENSION).contains(&self.dimension) {
            return Err(format!("the dimension must be 1 to {MAX_DIMENSION} (got {})", self.dimension));
        }
        if !is_sha256(&self.space_digest) {
            return Err("space_digest is not the lower-case hex SHA-256 of an encoder".to_owned());
        }
        let lives = self.segments.is_empty() || !self.snapshots.is_empty() || self.oldest > 0;
        if lives && self.schema < SCHEMA_WITH_DELETIONS {
            return Err("it has no segments".to_owned());
        }
        if self.oldest > self.epoch {
            return Err(format!("the oldest epoch must not be after its own (got {})", self.oldest));
        }
        if self.snapshots.len() > MAX_SNAPSHOTS {
            let count = self.snapshots.len();
            return Err(format!("it must have at most {MAX_SNAPSHOTS} snapshots (got {count})"));
        }
        check_segments(&self.segments, self.schema)?;
        for (name, snapshot) in &self.snapshots {
            check_name(name)?;
            check_segments(&snapshot.segments, self.schema)
                .map_err(|why| format!("snapshot {name}: {why}"))?;
        }
        Ok(())
    }
}

fn check_segments(segments: &[Segment], schema: u32) -> Result<(), String> {
    let (mut names, mut entries) = (HashSet::new(), 0_u64);
    for segment in segments {
        let name = &segment.name;
        if check_name(name).is_err() || !names.insert(name) {
            return Err(format!("segment {name:?} has an unusable name, or one that occurs twice"));
        }
        if segment.entries == 0 {
            return Err(format!("segment {name} is empty"));
        }
        entries = entries.saturating_add(segment.entries);
        for part in [Part::Entries, Part::Images, Part::Index] {
            if segment.file(part).is_none() {
                return Err(format!("it does not list {}", part.path(name)));
            }
        }
        let Some(deleted) = &segment.deleted else { continue };
        let is_within = deleted.file.path.starts_with(&format!("{SEGMENTS}/{name}/"));
        if schema < SCHEMA_WITH_DELETIONS || !is_within || !(1..=segment.entries).contains(&deleted.entries) {
            return Err(format!("what it says of the deleted entries of segment {name} makes no sense"));
        }
    }
    if entries > MAX_ENTRIES {
        return Err(format!("it must have at most {MAX_ENTRIES} entries (got {entries})"));
    }
    Ok(())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
