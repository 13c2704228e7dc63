use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::{Cache, Storage};

/// A folder with a large file, a small one and a manifest, and a bucket.
async fn places() -> (tempfile::TempDir, Folder, Folder, Publication) {
    let directory = tempfile::tempdir().unwrap();
    let from = Folder::open(directory.path().to_str().unwrap()).unwrap();
    let mut publication = Publication::default();
    for (name, size) in [("weights.bin", (WHOLE + PART_BYTES) as usize + 5), ("graph.onnx", 900)] {
        let bytes: Vec<u8> = name.bytes().cycle().take(size).collect();
        publication.files.push(FileDigest::of(name, &bytes));
        from.create(name, bytes.into()).await.unwrap();
    }
    publication.manifests.push(FileDigest::of("model.toml", b"a manifest").into());
    from.create("model.toml", Bytes::from_static(b"a manifest")).await.unwrap();
    (directory, from, bucket(), publication)
}

fn bucket() -> Folder {
    let storage = Storage::with_cache(Cache::new("", 0));
    Folder::of_store(Arc::new(InMemory::new()), "memory://bucket", storage)
}

#[tokio::test]
async fn what_is_published_is_there_and_publishing_again_writes_nothing() {
    let (directory, from, bucket, publication) = places().await;
    let local = Folder::open(directory.path().join("copy").to_str().unwrap()).unwrap();
    for to in [bucket, local] {
        let published = publication.publish(&from, &to).await.unwrap();
        assert_eq!((published.written, published.present), (3, 0));
        for file in
            publication.files.iter().chain(publication.manifests.iter().map(|manifest| &manifest.file))
        {
            assert_eq!(to.read_verified(file).await.unwrap(), from.read_verified(file).await.unwrap());
        }
        let again = publication.publish(&from, &to).await.unwrap();
        assert_eq!(again, Published { written: 0, bytes: 0, present: 3 });
    }
}

#[tokio::test]
async fn an_interrupted_publication_resumes_and_has_no_manifest_before_its_end() {
    let (directory, from, to, publication) = places().await;
    let graph = directory.path().join("graph.onnx");
    let bytes = std::fs::read(&graph).unwrap();
    std::fs::write(&graph, vec![0; 900]).unwrap();
    let error = publication.publish(&from, &to).await.unwrap_err();
    assert!(matches!(error, StorageError::Digest { .. }), "{error}");
    assert!(to.size("model.toml").await.unwrap().is_none());
    assert!(to.size("graph.onnx").await.unwrap().is_none());
    std::fs::write(&graph, bytes).unwrap();
    publication.publish(&from, &to).await.unwrap();
    assert!(to.size("model.toml").await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_something_else_is_left_as_it_is() {
    let (_directory, from, to, publication) = places().await;
    publication.publish(&from, &to).await.unwrap();
    let other = Publication { manifests: publication.manifests.clone(), files: Vec::new() };
    let error = other.publish(&from, &to).await.unwrap_err();
    assert!(matches!(error, StorageError::Differs { .. }), "{error}");

    // Without a claim, files are compared by what is in them, even if their size is right.
    for (there, is_same) in [(vec![0; 900], false), (vec![0; 9], false), (b"graph.onnx".repeat(90), true)] {
        let to = bucket();
        to.create("graph.onnx", there.clone().into()).await.unwrap();
        let outcome = publication.publish(&from, &to).await;
        assert_eq!(outcome.is_ok(), is_same, "{outcome:?}");
        assert_eq!(to.read("graph.onnx", 900).await.unwrap(), there);
        assert_eq!(to.size("model.toml").await.unwrap().is_some(), is_same);
    }
}

/// Commits as epochs will be: numbered, each by a writer of its own, each on top of the last.
#[tokio::test]
async fn of_two_writers_at_once_one_wins_each_number_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let local = Folder::open(directory.path().to_str().unwrap()).unwrap();
    for folder in [bucket(), local] {
        let writers = ["first", "second"].map(|writer| {
            let folder = folder.clone();
            tokio::spawn(async move {
                let (mut number, mut retries) = (1, 0);
                for commit in 0..20 {
                    let content = format!("{writer} {commit}");
                    while let Err(error) = folder.create(&number.to_string(), content.clone().into()).await {
                        assert!(matches!(error, StorageError::AlreadyExists { .. }), "{error}");
                        (number, retries) = (number + 1, retries + 1);
                    }
                    number += 1;
                }
                retries
            })
        });
        for writer in writers {
            writer.await.unwrap();
        }
        let mut found = Vec::new();
        for number in 1..=40 {
            found.push(folder.read(&number.to_string(), 99).await.unwrap());
        }
        assert_eq!(folder.size("41").await.unwrap(), None);
        for writer in ["first", "second"] {
            let own: Vec<_> = found.iter().filter(|content| content.starts_with(writer.as_bytes())).collect();
            let expected: Vec<_> = (0..20).map(|commit| Bytes::from(format!("{writer} {commit}"))).collect();
            assert!(own.into_iter().eq(&expected), "commits of the {writer} writer are lost");
        }
    }
}
