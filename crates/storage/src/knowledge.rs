//! A knowledge base on disk: one immutable epoch in one folder.
//!
//! ```text
//! manifest.json                   what there is; written last, so that a folder with a manifest is complete
//! segments/000001/entries.jsonl   one entry a line: id, caption, attribution, where its picture lies in the pack
//! segments/000001/images.pack     encoded pictures, back to back
//! segments/000001/vectors.usearch the pictures' vectors; the key is the entry's position in the segment, from 0
//! ```
//!
//! Every file but the manifest is verified against it before it is used.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{FileDigest, Folder, StorageError};

const MANIFEST: &str = "manifest.json";
const SCHEMA: u32 = 1;
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
const FIRST_SEGMENT: &str = "000001";
const MAX_NAME_BYTES: usize = 64;
const MAX_DIMENSION: u32 = 65_536;

/// `manifest.json`: what an epoch holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format; 1.
    pub schema: u32,
    /// The knowledge base's name: 1 to 64 lower-case letters, digits and hyphens.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Grows with every change of the knowledge base.
    pub epoch: u64,
    /// Length of each vector.
    pub dimension: u32,
    /// Lower-case hex SHA-256 of the joint image encoder's graph: vectors are comparable only within one such space.
    pub space_digest: String,
    /// The segments; an entry's position counts through them in this order.
    pub segments: Vec<Segment>,
}

/// A part of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Name of its folder below `segments/`.
    pub name: String,
    /// Number of entries, and of vectors.
    pub entries: u64,
    /// Its files; paths are relative to the manifest.
    pub files: Vec<FileDigest>,
}

/// A picture worth remembering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Identifier within the knowledge base.
    pub id: String,
    /// What the picture shows.
    pub caption: String,
    /// Whom to credit; may be empty.
    pub attribution: String,
    /// The encoded picture.
    pub image: Bytes,
}

/// A line of `entries.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    caption: String,
    attribution: String,
    image: Span,
}

/// Where a picture lies in the pack, bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    offset: u64,
    length: u64,
}

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
    /// The index of the entries' vectors, keyed by position.
    pub vectors: Bytes,
}

impl Manifest {
    /// Reads and validates the manifest of the epoch in `folder`.
    pub async fn read(folder: &Folder) -> Result<Self, StorageError> {
        let bytes = folder.read(MANIFEST, MAX_MANIFEST_BYTES).await?;
        let wrong = |why| StorageError::content(folder.describe(MANIFEST), why);
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        manifest.check().map_err(wrong)?;
        Ok(manifest)
    }

    /// Number of entries in all segments.
    pub fn entries(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.entries))
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

    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("its schema is {}, this version reads {SCHEMA}", self.schema));
        }
        if !is_name(&self.name) {
            return Err(format!(
                "the name {:?} is not 1 to {MAX_NAME_BYTES} lower-case letters, digits and hyphens",
                self.name
            ));
        }
        if !(1..=MAX_DIMENSION).contains(&self.dimension) {
            return Err(format!("the dimension must be 1 to {MAX_DIMENSION}, not {}", self.dimension));
        }
        if !is_sha256(&self.space_digest) {
            return Err("space_digest is not the lower-case hex SHA-256 of an encoder".to_owned());
        }
        if self.segments.is_empty() {
            return Err("it has no segments".to_owned());
        }
        let mut names = HashSet::new();
        for segment in &self.segments {
            if !is_name(&segment.name) || !names.insert(&segment.name) {
                return Err(format!(
                    "segment {:?} has an unusable name, or one that occurs twice",
                    segment.name
                ));
            }
            if segment.entries == 0 {
                return Err(format!("segment {} is empty", segment.name));
            }
            for file in [Part::Entries, Part::Images, Part::Vectors] {
                if segment.file(file).is_none() {
                    return Err(format!("it does not list {}", file.path(&segment.name)));
                }
            }
        }
        Ok(())
    }
}

impl Segment {
    /// Reads the verified bytes of the vector index.
    pub async fn read_vectors(&self, folder: &Folder) -> Result<Bytes, StorageError> {
        self.read(folder, Part::Vectors).await
    }

    async fn read_entries(&self, folder: &Folder) -> Result<Vec<Entry>, StorageError> {
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

    fn file(&self, part: Part) -> Option<&FileDigest> {
        let path = part.path(&self.name);
        self.files.iter().find(|file| file.path == path)
    }
}

/// Writes an epoch into `folder`, the manifest last: readers see all of it or nothing. Nothing is overwritten.
pub async fn write_epoch(folder: &Folder, epoch: NewEpoch) -> Result<Manifest, StorageError> {
    check_entries(&epoch.entries).map_err(|why| StorageError::content(folder.location(), why))?;
    let mut pack = BytesMut::new();
    let mut lines = Vec::new();
    for entry in &epoch.entries {
        let line = Line {
            id: entry.id.clone(),
            caption: entry.caption.clone(),
            attribution: entry.attribution.clone(),
            image: Span { offset: pack.len() as u64, length: entry.image.len() as u64 },
        };
        serde_json::to_writer(&mut lines, &line)
            .map_err(|error| StorageError::content(folder.describe(&entry.id), error.to_string()))?;
        lines.push(b'\n');
        pack.extend_from_slice(&entry.image);
    }
    let files =
        [(Part::Entries, Bytes::from(lines)), (Part::Images, pack.freeze()), (Part::Vectors, epoch.vectors)]
            .map(|(part, bytes)| (FileDigest::of(part.path(FIRST_SEGMENT), &bytes), bytes));
    let manifest = Manifest {
        schema: SCHEMA,
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

/// A file of a segment.
#[derive(Debug, Clone, Copy)]
enum Part {
    Entries,
    Images,
    Vectors,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries.jsonl",
            Self::Images => "images.pack",
            Self::Vectors => "vectors.usearch",
        }
    }

    fn path(self, segment: &str) -> String {
        format!("segments/{segment}/{}", self.name())
    }
}

fn check_entries(entries: &[Entry]) -> Result<(), String> {
    let mut ids = HashSet::with_capacity(entries.len());
    for (position, entry) in entries.iter().enumerate() {
        if entry.id.is_empty() || entry.id.chars().any(char::is_control) {
            return Err(format!("entry {position} has no usable id"));
        }
        if !ids.insert(&entry.id) {
            return Err(format!("the id {:?} occurs twice", entry.id));
        }
        if entry.caption.trim().is_empty() {
            return Err(format!("entry {:?} has no caption", entry.id));
        }
        if entry.image.is_empty() {
            return Err(format!("entry {:?} has no picture", entry.id));
        }
    }
    if entries.is_empty() { Err("there are no entries".to_owned()) } else { Ok(()) }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.to_owned(),
            caption: format!("a {id}"),
            attribution: String::new(),
            image: Bytes::from(format!("picture of {id}")),
        }
    }

    fn epoch(entries: Vec<Entry>) -> NewEpoch {
        NewEpoch {
            name: "creatures".to_owned(),
            description: "made-up creatures".to_owned(),
            epoch: 1,
            dimension: 4,
            space_digest: "a".repeat(64),
            entries,
            vectors: Bytes::from_static(b"vectors"),
        }
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path().join("creatures").to_str().unwrap()).unwrap();
        (directory, folder)
    }

    fn alter(directory: &tempfile::TempDir, file: &str, change: impl FnOnce(String) -> String) {
        let path = directory.path().join("creatures").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, change(text)).unwrap();
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let (_directory, folder) = folder();
        let entries = vec![entry("dribago"), entry("quopple")];
        let written = write_epoch(&folder, epoch(entries.clone())).await.unwrap();
        let manifest = Manifest::read(&folder).await.unwrap();
        assert_eq!(manifest, written);
        assert_eq!(manifest.entries(), 2);
        assert_eq!(manifest.read_entries(&folder).await.unwrap(), entries);
        assert_eq!(manifest.segments[0].read_vectors(&folder).await.unwrap(), "vectors");
        let again = write_epoch(&folder, epoch(entries)).await;
        assert!(matches!(again, Err(StorageError::AlreadyExists { .. })));
    }

    #[tokio::test]
    async fn an_altered_byte_is_noticed() {
        for file in ["entries.jsonl", "images.pack", "vectors.usearch"] {
            let (directory, folder) = folder();
            let manifest = write_epoch(&folder, epoch(vec![entry("dribago")])).await.unwrap();
            alter(&directory, &format!("segments/000001/{file}"), |text| text.replacen('e', "E", 1));
            let entries = manifest.read_entries(&folder).await.err();
            let vectors = manifest.segments[0].read_vectors(&folder).await.err();
            let error = entries.or(vectors).unwrap();
            assert!(matches!(error, StorageError::Digest { .. }), "{file}: {error}");
        }
    }

    #[tokio::test]
    async fn entries_that_make_no_sense_are_not_written() {
        let (_directory, folder) = folder();
        let blank = Entry { caption: " ".to_owned(), ..entry("x") };
        let unseen = Entry { image: Bytes::new(), ..entry("x") };
        let cases =
            [vec![], vec![entry("twice"), entry("twice")], vec![blank], vec![unseen], vec![entry("")]];
        for entries in cases {
            let result = write_epoch(&folder, epoch(entries)).await;
            assert!(matches!(result, Err(StorageError::Content { .. })));
        }
        let named = NewEpoch { name: "../x".to_owned(), ..epoch(vec![entry("x")]) };
        assert!(write_epoch(&folder, named).await.is_err());
        assert!(matches!(Manifest::read(&folder).await, Err(StorageError::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_manifest_that_makes_no_sense_is_refused() {
        let changes: [(&str, &str); 6] = [
            ("\"schema\": 1", "\"schema\": 2"),
            ("\"dimension\": 4", "\"dimension\": 0"),
            ("\"name\": \"creatures\"", "\"name\": \"Creatures\""),
            ("\"entries\": 1", "\"entries\": 0"),
            ("segments/000001/images.pack", "segments/000001/../images.pack"),
            ("\"epoch\": 1", "\"epoch\": 1, \"surprise\": 1"),
        ];
        for (from, to) in changes {
            let (directory, folder) = folder();
            write_epoch(&folder, epoch(vec![entry("dribago")])).await.unwrap();
            alter(&directory, MANIFEST, |text| text.replacen(from, to, 1));
            assert!(matches!(Manifest::read(&folder).await, Err(StorageError::Content { .. })), "{to}");
        }
    }

    #[tokio::test]
    async fn counts_and_spans_must_agree_with_the_files() {
        let (_directory, folder) = folder();
        let mut manifest = write_epoch(&folder, epoch(vec![entry("dribago")])).await.unwrap();
        manifest.segments[0].entries = 2;
        let error = manifest.read_entries(&folder).await.unwrap_err().to_string();
        assert!(error.contains("the manifest says 2"), "{error}");

        let far =
            r#"{"id":"x","caption":"x","attribution":"","image":{"offset":18446744073709551615,"length":2}}"#;
        let empty = r#"{"id":"x","caption":"x","attribution":"","image":{"offset":0,"length":0}}"#;
        for (number, line) in [far, empty].into_iter().enumerate() {
            let segment = format!("{number}");
            let lines = Part::Entries.path(&segment);
            let pack = Part::Images.path(&segment);
            folder.create(&lines, Bytes::from(line)).await.unwrap();
            folder.create(&pack, Bytes::from_static(b"four")).await.unwrap();
            let files = vec![FileDigest::of(lines, line.as_bytes()), FileDigest::of(pack, b"four")];
            let segment = Segment { name: segment, entries: 1, files };
            let error = segment.read_entries(&folder).await.unwrap_err().to_string();
            assert!(error.contains("line 1"), "{error}");
        }
    }
}
