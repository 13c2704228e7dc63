//! A segment: a run of entries, their pictures and their vectors, each in a file.

use std::collections::BTreeSet;

use bytes::Bytes;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Line, Span};
use reverie_storage::{FileDigest, Folder, StorageError};

/// The folder of segments.
pub(crate) const SEGMENTS: &str = "segments";

/// What the name of a file begins with that says which entries are deleted; the rest is like the name of a segment.
const DELETED: &str = "deleted-";

/// A part of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Name of its folder below `segments/`.
    pub name: String,
    /// Number of entries, those that are deleted included.
    pub entries: u64,
    /// Which of them are deleted; none if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Deleted>,
    /// Its files; paths are relative to the folder of the knowledge base.
    pub files: Vec<FileDigest>,
}

/// Entries of a segment that are deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deleted {
    /// How many.
    pub entries: u64,
    /// The epochs in which some of them were marked to be forgotten: the segment is written anew without them, and its files are removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub forget: BTreeSet<u64>,
    /// Their positions in the segment, as a serialized Roaring bitmap of 32-bit integers.
    pub file: FileDigest,
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
    Captions,
}

impl Part {
    /// What makes the identity of a segment; the last one only where vectors are equal.
    pub(super) const OWN: [Self; 4] = [Self::Entries, Self::Images, Self::Index, Self::Keys];
    /// All of them; the last one is worked out of the entries, and need not be there.
    pub(super) const ALL: [Self; 5] = [Self::Entries, Self::Images, Self::Index, Self::Keys, Self::Captions];

    fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries.jsonl",
            Self::Images => "images.pack",
            Self::Index => "vectors.usearch",
            Self::Keys => "vectors.keys",
            Self::Captions => "captions.index",
        }
    }

    pub(super) fn path(self, segment: &str) -> String {
        within(segment, self.name())
    }
}

/// The path of a file of a segment.
fn within(segment: &str, file: &str) -> String {
    format!("{}/{file}", Segment::folder(segment))
}

impl Segment {
    /// A name that no other segment has, for one that comes with this epoch.
    pub fn new_name(epoch: u64) -> String {
        format!("{epoch:06}-{:016x}", rand::random::<u64>())
    }

    /// A name for a segment that comes with this epoch and has this content, given by its digest: the same for the same.
    pub fn name_of(epoch: u64, content: &str) -> String {
        format!("{epoch:06}-{}", &content[..content.len().min(16)])
    }

    /// The path that a file of a segment has in the segment of this name.
    pub(crate) fn moved(path: &str, name: &str) -> String {
        within(name, path.rsplit('/').next().unwrap_or_default())
    }

    /// The epoch that a segment of that name came with; none if the name does not say it.
    pub fn came_with(name: &str) -> Option<u64> {
        name.split('-').next()?.parse().ok()
    }

    /// The path of the folder of a segment.
    pub(crate) fn folder(name: &str) -> String {
        format!("{SEGMENTS}/{name}")
    }

    /// The epochs in which some of its entries were marked to be forgotten that it still has.
    pub fn to_forget(&self) -> impl Iterator<Item = u64> {
        self.deleted.iter().flat_map(|deleted| deleted.forget.iter().copied())
    }

    /// Number of entries that are not deleted.
    pub fn present(&self) -> u64 {
        self.entries - self.deleted.as_ref().map_or(0, |deleted| deleted.entries)
    }

    /// All its files, those of deletions included.
    pub fn all_files(&self) -> impl Iterator<Item = &FileDigest> {
        self.files.iter().chain(self.deleted.iter().map(|deleted| &deleted.file))
    }

    /// The epoch that a file came with that says which entries of a segment are deleted; none if it is not such a file.
    pub(crate) fn deleted_with(path: &str) -> Option<u64> {
        Self::came_with(path.rsplit('/').next()?.strip_prefix(DELETED)?)
    }

    /// Whether its entries and vectors are those of `other`, whichever of them are deleted.
    pub fn holds_the_same_as(&self, other: &Self) -> bool {
        self.name == other.name && self.files == other.files
    }

    /// Reads the positions of the entries that are deleted.
    pub async fn read_deleted(&self, folder: &Folder) -> Result<RoaringBitmap, StorageError> {
        let Some(Deleted { entries, file, .. }) = &self.deleted else { return Ok(RoaringBitmap::new()) };
        let wrong = |why: String| StorageError::content(folder.describe(&file.path), why);
        let bytes = folder.read_verified(file).await?;
        let positions =
            RoaringBitmap::deserialize_from(&bytes[..]).map_err(|error| wrong(error.to_string()))?;
        if positions.len() != *entries {
            return Err(wrong(format!("it has {} positions, the manifest says {entries}", positions.len())));
        }
        match positions.max() {
            Some(last) if u64::from(last) >= self.entries => {
                Err(wrong(format!("it has position {last}, the segment has {} entries", self.entries)))
            }
            _ => Ok(positions),
        }
    }

    /// Reads the positions of the entries that are not deleted.
    pub async fn read_present(&self, folder: &Folder) -> Result<RoaringBitmap, StorageError> {
        let all: RoaringBitmap = (0..self.entries as u32).collect();
        Ok(all - self.read_deleted(folder).await?)
    }

    /// Writes which of its entries are deleted in this epoch, under a name of its own. `forget` says when some were marked to be
    /// forgotten.
    pub async fn delete(
        &mut self,
        folder: &Folder,
        epoch: u64,
        positions: &RoaringBitmap,
        forget: BTreeSet<u64>,
    ) -> Result<(), StorageError> {
        let path = within(&self.name, &format!("{DELETED}{}.bitmap", Self::new_name(epoch)));
        let mut bytes = Vec::with_capacity(positions.serialized_size());
        positions
            .serialize_into(&mut bytes)
            .map_err(|error| StorageError::content(folder.describe(&path), error.to_string()))?;
        let file = FileDigest::of(path, &bytes);
        folder.create(&file.path, bytes.into()).await?;
        self.deleted = Some(Deleted { entries: positions.len(), forget, file });
        Ok(())
    }

    /// Reads the verified vectors.
    pub async fn read_vectors(&self, folder: &Folder) -> Result<Vectors, StorageError> {
        let index = self.read(folder, Part::Index).await?;
        Ok(Vectors { index, keys: self.read_keys(folder).await? })
    }

    /// Reads and verifies the key of each entry's vector: [`Vectors::keys`].
    pub async fn read_keys(&self, folder: &Folder) -> Result<Option<Vec<u64>>, StorageError> {
        let Some(file) = self.file(Part::Keys) else { return Ok(None) };
        let keys = decode_keys(&folder.read_verified(file).await?, self.entries);
        Ok(Some(keys.map_err(|why| StorageError::content(folder.describe(&file.path), why))?))
    }

    /// Reads all entries with their pictures, in order of position; those that are deleted, too. They are not checked as a whole.
    pub async fn read_entries(&self, folder: &Folder) -> Result<Vec<Entry>, StorageError> {
        let pack = self.read(folder, Part::Images).await?;
        let entry = move |line: Line| {
            let Span { offset, length } = line.image;
            let end = offset.checked_add(length).filter(|&end| length > 0 && end <= pack.len() as u64);
            let (name, bytes) = (Part::Images.name(), pack.len());
            let end = end.ok_or_else(|| {
                format!("{length} bytes from {offset} are not in {name}, which has {bytes} bytes")
            })?;
            Ok(Entry {
                id: line.id,
                caption: line.caption,
                attribution: line.attribution,
                metadata: line.metadata,
                image: pack.slice(offset as usize..end as usize),
            })
        };
        self.read_lines(folder, entry).await
    }

    /// Reads the ids of all entries, in order of position; of those that are deleted, too.
    pub async fn read_ids(&self, folder: &Folder) -> Result<Vec<String>, StorageError> {
        self.read_lines(folder, |line| Ok(line.id)).await
    }

    /// Reads what was worked out of the captions when they were written, if it was.
    pub async fn read_captions(&self, folder: &Folder) -> Result<Option<Bytes>, StorageError> {
        match self.captions_file() {
            Some(file) => folder.read_verified(file).await.map(Some),
            None => Ok(None),
        }
    }

    /// The file that has it.
    pub fn captions_file(&self) -> Option<&FileDigest> {
        self.file(Part::Captions)
    }

    /// What `of` makes of each line.
    async fn read_lines<T: Send + 'static>(
        &self,
        folder: &Folder,
        of: impl Fn(Line) -> Result<T, String> + Send + 'static,
    ) -> Result<Vec<T>, StorageError> {
        let (lines, count) = (self.read(folder, Part::Entries).await?, self.entries);
        let read = move || {
            let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            let read = (1..).zip(lines).map(|(number, line)| {
                let line = serde_json::from_slice(line).map_err(|error| error.to_string());
                line.and_then(&of).map_err(|why| format!("line {number}: {why}"))
            });
            let read: Vec<T> = read.collect::<Result<_, String>>()?;
            if read.len() as u64 == count {
                Ok(read)
            } else {
                Err(format!("it has {} entries, the manifest says {count}", read.len()))
            }
        };
        let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|cut_off| Err(cut_off.to_string()));
        read.map_err(|why| StorageError::content(folder.describe(&Part::Entries.path(&self.name)), why))
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
