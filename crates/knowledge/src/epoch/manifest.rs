//! `manifest.json`: what an epoch holds, and its identity.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, check_entries};
use super::segment::{Part, Segment};
use super::texts::{check_description, check_name};
use reverie_storage::publish::Publication;
use reverie_storage::{FileDigest, Folder, StorageError, sha256_hex};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const SCHEMA: u32 = 1;
/// A version 1 reader would look for the vectors that are kept once.
pub(super) const SCHEMA_WITH_KEYS: u32 = 2;
/// A version 2 reader would not read the lines.
pub(super) const SCHEMA_WITH_METADATA: u32 = 3;
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
const MAX_DIMENSION: u32 = 65_536;

/// `manifest.json`: what an epoch holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1, 2 if a segment has `vectors.keys`, or 3 if an entry has metadata.
    pub schema: u32,
    /// The knowledge base's name: 1 to 64 lower-case letters, digits and hyphens.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Grows with every change of the knowledge base. Two knowledge bases may well have the same one:
    /// [`Manifest::content_digest`] tells them apart.
    pub epoch: u64,
    /// Length of each vector.
    pub dimension: u32,
    /// Lower-case hex SHA-256 of the joint image encoder's graph: vectors are comparable only within one such space.
    pub space_digest: String,
    /// The segments; an entry's position counts through them in this order.
    pub segments: Vec<Segment>,
}

impl Manifest {
    /// Reads and validates the manifest of the epoch in `folder`.
    pub async fn read(folder: &Folder) -> Result<Self, StorageError> {
        Ok(Self::read_file(folder).await?.0)
    }

    /// The same, and its file.
    async fn read_file(folder: &Folder) -> Result<(Self, FileDigest), StorageError> {
        let bytes = folder.read(MANIFEST, MAX_MANIFEST_BYTES).await?;
        let wrong = |why| StorageError::content(folder.describe(MANIFEST), why);
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        manifest.check().map_err(wrong)?;
        Ok((manifest, FileDigest::of(MANIFEST, &bytes)))
    }

    /// Number of entries in all segments.
    pub fn entries(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.entries))
    }

    /// Lower-case hex SHA-256 of what the epoch holds: ids, captions, attributions, metadata, pictures, vectors, their order and their
    /// space. Name, description and epoch number do not count. Readers verify each file they use against the manifest, so
    /// two services with equal digests have the same entries at the same positions.
    pub fn content_digest(&self) -> String {
        let mut content = vec![format!("knowledge base\n{} {}", self.space_digest, self.dimension)];
        content.extend(self.segments.iter().map(|segment| {
            let digest = |part| segment.file(part).map_or("-", |file| file.sha256.as_str());
            format!("{} {}", segment.entries, Part::ALL.map(digest).join(" "))
        }));
        sha256_hex(content.join("\n").as_bytes())
    }

    /// What it takes to publish the epoch in `folder`: every file that its manifest lists, then the manifest.
    pub async fn publication(folder: &Folder) -> Result<Publication, StorageError> {
        let (manifest, own) = Self::read_file(folder).await?;
        let files = manifest.segments.into_iter().flat_map(|segment| segment.files).collect();
        Ok(Publication { files, manifests: vec![own] })
    }

    /// Reads all entries with their pictures, in order of position.
    pub async fn read_entries(&self, folder: &Folder) -> Result<Vec<Entry>, StorageError> {
        let mut entries = Vec::new();
        for segment in &self.segments {
            entries.extend(segment.read_entries(folder).await?);
        }
        check_entries(&entries).map_err(|why| StorageError::content(folder.location(), why))?;
        Ok(entries)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(SCHEMA..=SCHEMA_WITH_METADATA).contains(&self.schema) {
            return Err(format!(
                "its schema is {}, this version reads {SCHEMA} to {SCHEMA_WITH_METADATA}",
                self.schema
            ));
        }
        check_name(&self.name)?;
        check_description(&self.description)?;
        if !(1..=MAX_DIMENSION).contains(&self.dimension) {
            return Err(format!("the dimension must be 1 to {MAX_DIMENSION} (got {})", self.dimension));
        }
        if !is_sha256(&self.space_digest) {
            return Err("space_digest is not the lower-case hex SHA-256 of an encoder".to_owned());
        }
        if self.segments.is_empty() {
            return Err("it has no segments".to_owned());
        }
        let mut names = HashSet::new();
        for segment in &self.segments {
            if check_name(&segment.name).is_err() || !names.insert(&segment.name) {
                return Err(format!(
                    "segment {:?} has an unusable name, or one that occurs twice",
                    segment.name
                ));
            }
            if segment.entries == 0 {
                return Err(format!("segment {} is empty", segment.name));
            }
            for part in [Part::Entries, Part::Images, Part::Index] {
                if segment.file(part).is_none() {
                    return Err(format!("it does not list {}", part.path(&segment.name)));
                }
            }
        }
        Ok(())
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
