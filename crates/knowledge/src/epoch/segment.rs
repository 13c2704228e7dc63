//! A segment: a run of entries, their pictures and their vectors, each in a file.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Line, Span};
use reverie_storage::{FileDigest, Folder, StorageError};

/// A part of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Name of its folder below `segments/`.
    pub name: String,
    /// Number of entries.
    pub entries: u64,
    /// Its files; paths are relative to the manifest.
    pub files: Vec<FileDigest>,
}

/// The vectors of a segment's pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vectors {
    /// The index file. It holds each vector once, by the position of the first entry that has it.
    pub index: Bytes,
    /// The key of each entry's vector in the index, by position; `None` if all vectors differ, so that a key is a position.
    pub keys: Option<Vec<u64>>,
}

/// A file of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Entries,
    Images,
    Index,
    Keys,
}

impl Part {
    /// All of them; the last one only where vectors are equal.
    pub(super) const ALL: [Self; 4] = [Self::Entries, Self::Images, Self::Index, Self::Keys];

    fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries.jsonl",
            Self::Images => "images.pack",
            Self::Index => "vectors.usearch",
            Self::Keys => "vectors.keys",
        }
    }

    pub(super) fn path(self, segment: &str) -> String {
        format!("segments/{segment}/{}", self.name())
    }
}

impl Segment {
    /// Reads the verified vectors.
    pub async fn read_vectors(&self, folder: &Folder) -> Result<Vectors, StorageError> {
        let index = self.read(folder, Part::Index).await?;
        let keys = match self.file(Part::Keys) {
            Some(file) => {
                let keys = decode_keys(&folder.read_verified(file).await?, self.entries);
                Some(keys.map_err(|why| StorageError::content(folder.describe(&file.path), why))?)
            }
            None => None,
        };
        Ok(Vectors { index, keys })
    }

    pub(super) async fn read_entries(&self, folder: &Folder) -> Result<Vec<Entry>, StorageError> {
        let lines = self.read(folder, Part::Entries).await?;
        let pack = self.read(folder, Part::Images).await?;
        let wrong = |why| StorageError::content(folder.describe(&Part::Entries.path(&self.name)), why);
        let mut entries = Vec::new();
        let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        for (number, line) in (1..).zip(lines) {
            let line: Line =
                serde_json::from_slice(line).map_err(|error| wrong(format!("line {number}: {error}")))?;
            let Span { offset, length } = line.image;
            let end = offset.checked_add(length).filter(|&end| length > 0 && end <= pack.len() as u64);
            let Some(end) = end else {
                return Err(wrong(format!(
                    "line {number}: {length} bytes from {offset} are not in {}, which has {} bytes",
                    Part::Images.name(),
                    pack.len()
                )));
            };
            entries.push(Entry {
                id: line.id,
                caption: line.caption,
                attribution: line.attribution,
                metadata: line.metadata,
                image: pack.slice(offset as usize..end as usize),
            });
        }
        if entries.len() as u64 != self.entries {
            return Err(wrong(format!(
                "it has {} entries, the manifest says {}",
                entries.len(),
                self.entries
            )));
        }
        Ok(entries)
    }

    async fn read(&self, folder: &Folder, part: Part) -> Result<Bytes, StorageError> {
        let Some(file) = self.file(part) else {
            return Err(StorageError::NotFound { file: folder.describe(&part.path(&self.name)) });
        };
        folder.read_verified(file).await
    }

    pub(super) fn file(&self, part: Part) -> Option<&FileDigest> {
        let path = part.path(&self.name);
        self.files.iter().find(|file| file.path == path)
    }
}

/// `vectors.keys`: unsigned 64-bit integers, little-endian.
pub(super) fn encode_keys(keys: &[u64]) -> Bytes {
    keys.iter().flat_map(|key| key.to_le_bytes()).collect()
}

/// Keys of which each is the position of the first entry that has it.
fn decode_keys(bytes: &[u8], entries: u64) -> Result<Vec<u64>, String> {
    let (keys, rest) = bytes.as_chunks::<8>();
    if keys.len() as u64 != entries || !rest.is_empty() {
        return Err(format!("it must have 8 bytes for each of {entries} entries (got {})", bytes.len()));
    }
    let keys: Vec<u64> = keys.iter().map(|key| u64::from_le_bytes(*key)).collect();
    for (position, &key) in (0..).zip(&keys) {
        if key > position || keys.get(key as usize) != Some(&key) {
            return Err(format!(
                "entry {position} has the vector of entry {key}, which is not the first to have it"
            ));
        }
    }
    Ok(keys)
}
