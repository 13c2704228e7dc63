//! Writing an epoch.

use bytes::{Bytes, BytesMut};

use super::Manifest;
use super::entry::{Entry, Line, Span, check_entries};
use super::manifest::{MANIFEST, SCHEMA, SCHEMA_WITH_KEYS};
use super::segment::{Part, Segment, Vectors, encode_keys};
use crate::{FileDigest, Folder, StorageError};

const FIRST_SEGMENT: &str = "000001";

/// An epoch to be written.
#[derive(Debug, Clone)]
pub struct NewEpoch {
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
    pub entries: Vec<Entry>,
    /// The entries' vectors.
    pub vectors: Vectors,
}

/// Writes an epoch into `folder`, the manifest last: readers see all of it or nothing. Nothing is overwritten.
pub async fn write_epoch(folder: &Folder, epoch: NewEpoch) -> Result<Manifest, StorageError> {
    check_entries(&epoch.entries).map_err(|why| StorageError::content(folder.location(), why))?;
    let (lines, pack) = pack(&epoch.entries).map_err(|error| {
        StorageError::content(folder.describe(&Part::Entries.path(FIRST_SEGMENT)), error.to_string())
    })?;
    let Vectors { index, keys } = epoch.vectors;
    let schema = if keys.is_some() { SCHEMA_WITH_KEYS } else { SCHEMA };
    let keys = keys.map(|keys| (Part::Keys, encode_keys(&keys)));
    let files: Vec<(FileDigest, Bytes)> =
        [(Part::Entries, lines), (Part::Images, pack), (Part::Index, index)]
            .into_iter()
            .chain(keys)
            .map(|(part, bytes)| (FileDigest::of(part.path(FIRST_SEGMENT), &bytes), bytes))
            .collect();
    let manifest = Manifest {
        schema,
        name: epoch.name,
        description: epoch.description,
        epoch: epoch.epoch,
        dimension: epoch.dimension,
        space_digest: epoch.space_digest,
        segments: vec![Segment {
            name: FIRST_SEGMENT.to_owned(),
            entries: epoch.entries.len() as u64,
            files: files.iter().map(|(file, _)| file.clone()).collect(),
        }],
    };
    let wrong = |why| StorageError::content(folder.describe(MANIFEST), why);
    manifest.check().map_err(wrong)?;
    let mut written = serde_json::to_vec_pretty(&manifest).map_err(|error| wrong(error.to_string()))?;
    written.push(b'\n');
    for (file, bytes) in files {
        folder.create(&file.path, bytes).await?;
    }
    folder.create(MANIFEST, Bytes::from(written)).await?;
    Ok(manifest)
}

/// The lines of `entries.jsonl` and the pictures, back to back.
fn pack(entries: &[Entry]) -> Result<(Bytes, Bytes), serde_json::Error> {
    let mut pack = BytesMut::new();
    let mut lines = Vec::new();
    for entry in entries {
        let line = Line {
            id: entry.id.clone(),
            caption: entry.caption.clone(),
            attribution: entry.attribution.clone(),
            image: Span { offset: pack.len() as u64, length: entry.image.len() as u64 },
        };
        serde_json::to_writer(&mut lines, &line)?;
        lines.push(b'\n');
        pack.extend_from_slice(&entry.image);
    }
    Ok((lines.into(), pack.freeze()))
}
