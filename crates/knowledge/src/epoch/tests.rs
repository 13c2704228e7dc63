//! An epoch, written and read, and what is refused.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::manifest::MANIFEST;
use super::segment::{Part, encode_keys};
use super::*;
use crate::Epochs;
use reverie_storage::{FileDigest, Folder, StorageError};

fn entry(id: &str) -> Entry {
    Entry {
        id: id.to_owned(),
        caption: format!("a {id}"),
        attribution: String::new(),
        metadata: Metadata::new(),
        image: Bytes::from(format!("picture of {id}")),
    }
}

fn epoch(entries: Vec<Entry>) -> NewEpoch {
    NewEpoch {
        name: "creatures".to_owned(),
        description: "made-up creatures".to_owned(),
        epoch: 1,
        dimension: 4,
        kind: VectorKind::F32,
        space_digest: "a".repeat(64),
        entries,
        vectors: Vectors { index: Bytes::from_static(b"vectors"), keys: None },
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
    assert_eq!(manifest.segments[0].read_vectors(&folder).await.unwrap().index, "vectors");
    let again = write_epoch(&folder, epoch(entries)).await;
    assert!(matches!(again, Err(StorageError::AlreadyExists { .. })));
}

#[tokio::test]
async fn metadata_is_read_as_it_was_written() {
    let (_directory, folder) = folder();
    let metadata = Metadata::from([
        ("year".to_owned(), Value::Number(0.1)),
        ("kind".to_owned(), Value::Text("fox".to_owned())),
        ("wild".to_owned(), Value::Flag(false)),
    ]);
    let entries = vec![Entry { metadata, ..entry("dribago") }, entry("quopple")];
    let manifest = write_epoch(&folder, epoch(entries.clone())).await.unwrap();
    assert_eq!(manifest.schema, 3, "an older reader must not take the lines for damaged ones");
    assert_eq!(manifest.read_entries(&folder).await.unwrap(), entries);
    assert_eq!(Manifest::read(&folder).await.unwrap().schema, 3);
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
    let bell = Entry { caption: "a \u{7}bell".to_owned(), ..entry("x") };
    let long = Entry { caption: "x".repeat(8001), ..entry("x") };
    let credit = Entry { attribution: "x".repeat(8001), ..entry("x") };
    let unseen = Entry { image: Bytes::new(), ..entry("x") };
    let alone = [blank, bell, long, credit, unseen, entry(""), entry("a\nb")].map(|entry| vec![entry]);
    for entries in alone.into_iter().chain([vec![], vec![entry("twice"), entry("twice")]]) {
        let result = write_epoch(&folder, epoch(entries)).await;
        assert!(matches!(result, Err(StorageError::Content { .. })));
    }
    let named = NewEpoch { name: "../x".to_owned(), ..epoch(vec![entry("x")]) };
    assert!(write_epoch(&folder, named).await.is_err());
    assert!(matches!(Manifest::read(&folder).await, Err(StorageError::NotFound { .. })));
}

#[tokio::test]
async fn a_manifest_that_makes_no_sense_is_refused() {
    let changes: [(&str, &str); 7] = [
        ("\"schema\": 1", "\"schema\": 6"),
        ("\"epoch\": 1", "\"epoch\": 1, \"merged\": [\"a\"]"),
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
        let segment = Segment { name: segment, entries: 1, deleted: None, files };
        let error = segment.read_entries(&folder).await.unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}

#[tokio::test]
async fn equal_vectors_are_kept_once_and_the_keys_say_whose_they_are() {
    let (directory, folder) = folder();
    let entries: Vec<_> = ["a", "b", "c", "d"].map(entry).into();
    let vectors = Vectors { index: Bytes::from_static(b"vectors"), keys: Some(vec![0, 1, 0, 1]) };
    let written =
        write_epoch(&folder, NewEpoch { vectors: vectors.clone(), ..epoch(entries.clone()) }).await.unwrap();
    assert_eq!(written.schema, 2);
    let manifest = Manifest::read(&folder).await.unwrap();
    assert_eq!(manifest.read_entries(&folder).await.unwrap(), entries);
    assert_eq!(manifest.segments[0].read_vectors(&folder).await.unwrap(), vectors);

    let file = "segments/000001/vectors.keys";
    for keys in [&[0, 1, 0][..], &[0, 1, 0, 4], &[0, 1, 3, 3], &[0, 0, 1, 1], &[0, 1, 0, 1, 0]] {
        let bytes = encode_keys(keys);
        std::fs::write(directory.path().join("creatures").join(file), &bytes).unwrap();
        let mut manifest = manifest.clone();
        let listed = manifest.segments[0].files.iter_mut().find(|listed| listed.path == file).unwrap();
        *listed = FileDigest::of(file, &bytes);
        let error = manifest.segments[0].read_vectors(&folder).await.unwrap_err().to_string();
        assert!(error.contains("vectors.keys"), "{keys:?}: {error}");
    }
}

#[tokio::test]
async fn identity_comes_from_content_alone() {
    let identity = async |epoch: NewEpoch| {
        let (_directory, folder) = folder();
        write_epoch(&folder, epoch).await.unwrap().content_digest()
    };
    let base = || epoch(vec![entry("dribago"), entry("quopple")]);
    let known = identity(base()).await;
    let renamed = NewEpoch { name: "birds".to_owned(), description: String::new(), epoch: 2, ..base() };
    assert_eq!(identity(renamed).await, known);

    let other = |change: fn(&mut NewEpoch)| {
        let mut epoch = base();
        change(&mut epoch);
        epoch
    };
    let others = [
        other(|epoch| drop(epoch.entries.remove(0))),
        other(|epoch| epoch.entries.swap(0, 1)),
        other(|epoch| epoch.entries[0].id.push('2')),
        other(|epoch| epoch.entries[0].caption.push('2')),
        other(|epoch| epoch.entries[0].attribution.push('2')),
        // As long as the one before, so that its place in the pack says nothing.
        other(|epoch| epoch.entries[0].image = Bytes::from_static(b"PICTURE of dribago")),
        other(|epoch| epoch.vectors.index = Bytes::from_static(b"other vectors")),
        other(|epoch| epoch.vectors.keys = Some(vec![0, 0])),
        other(|epoch| epoch.space_digest = "b".repeat(64)),
        other(|epoch| epoch.dimension = 5),
    ];
    let mut seen = vec![known];
    for epoch in others {
        let digest = identity(epoch).await;
        assert!(digest.len() == 64 && !seen.contains(&digest), "{digest}");
        seen.push(digest);
    }
}

#[tokio::test]
async fn what_is_deleted_is_not_read_and_has_another_identity() {
    let (directory, folder) = folder();
    let entries = vec![entry("dribago"), entry("quopple"), entry("zunin")];
    let mut manifest = write_epoch(&folder, epoch(entries.clone())).await.unwrap();
    let whole = manifest.content_digest();
    let deleted = roaring::RoaringBitmap::from([1]);
    manifest.segments[0].delete(&folder, 2, &deleted, BTreeSet::new()).await.unwrap();
    manifest.schema = manifest.lowest_schema(false);
    assert_eq!((manifest.schema, manifest.entries(), manifest.present()), (4, 3, 2));
    assert_ne!(manifest.content_digest(), whole);
    assert_eq!(manifest.check(), Ok(()));
    assert_eq!(manifest.read_entries(&folder).await.unwrap(), [entries[0].clone(), entries[2].clone()]);

    let mut unread = manifest.clone();
    unread.schema = 3;
    assert!(unread.check().is_err(), "an older reader would find what is deleted");
    let file = manifest.segments[0].deleted.as_ref().unwrap().file.path.clone();
    alter(&directory, &file, |_| String::new());
    let error = manifest.read_entries(&folder).await.unwrap_err().to_string();
    assert!(error.contains(&file) && error.contains("damaged"), "{error}");
    for deleted in [&[0, 1][..], &[3]] {
        let mut manifest = manifest.clone();
        manifest.segments[0].delete(&folder, 2, &deleted.iter().collect(), BTreeSet::new()).await.unwrap();
        manifest.segments[0].deleted.as_mut().unwrap().entries = 1;
        let error = manifest.segments[0].read_deleted(&folder).await.unwrap_err().to_string();
        assert!(error.contains("position"), "{error}");
    }
}

#[tokio::test]
async fn a_knowledge_base_may_be_empty() {
    let (_directory, folder) = folder();
    let (name, space) = ("creatures".to_owned(), "a".repeat(64));
    let written = write_empty(&folder, name, String::new(), 4, VectorKind::F32, space).await.unwrap();
    assert_eq!((written.schema, written.entries()), (4, 0));
    assert_eq!(Manifest::read(&folder).await.unwrap(), written);
}

#[tokio::test]
async fn the_latest_epoch_is_published_as_the_first() {
    let (_directory, live) = folder();
    let (_other, target) = folder();
    let entries = vec![entry("dribago"), entry("quopple"), entry("zunin")];
    let first = write_epoch(&live, epoch(entries.clone())).await.unwrap();
    let mut latest = first.clone();
    latest.segments[0].delete(&live, 2, &[1].into(), BTreeSet::new()).await.unwrap();
    let whole = Snapshot { epoch: 1, segments: first.segments.clone() };
    latest.snapshots.insert("whole".to_owned(), whole);
    (latest.epoch, latest.schema) = (2, 4);
    Epochs::new(live.clone()).commit(&latest, &latest).await.unwrap();

    Manifest::publication(&live).await.unwrap().publish(&live, &target).await.unwrap();
    let published = Manifest::read(&target).await.unwrap();
    assert_eq!(published, latest);
    assert_eq!(published.read_entries(&target).await.unwrap(), [entries[0].clone(), entries[2].clone()]);
    let restored = Manifest { segments: published.snapshots["whole"].segments.clone(), ..published };
    assert_eq!(restored.read_entries(&target).await.unwrap(), entries);
}
