//! A knowledge base that is followed, and what is passed over.

use bytes::Bytes;

use super::*;
use crate::epoch::{Entry, Metadata, NewEpoch, VectorKind, Vectors, write_epoch};

/// Reads captions.
#[derive(Debug)]
struct Captions;

impl Read for Captions {
    const MOST_KEPT: usize = 8;

    type Epoch = (Manifest, Vec<String>);
    type Error = StorageError;

    async fn read(
        &self,
        folder: &Folder,
        manifest: Manifest,
        _: Option<&Self::Epoch>,
    ) -> Result<Self::Epoch, StorageError> {
        let entries = manifest.read_entries(folder).await?;
        Ok((manifest, entries.into_iter().map(|entry| entry.caption).collect()))
    }

    fn manifest(epoch: &Self::Epoch) -> &Manifest {
        &epoch.0
    }
}

async fn live() -> (tempfile::TempDir, Folder, Live<Captions>) {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::open(directory.path().to_str().unwrap()).unwrap();
    let entry = |id: &str| Entry {
        id: id.to_owned(),
        caption: format!("a {id}"),
        attribution: String::new(),
        metadata: Metadata::new(),
        image: Bytes::from_static(b"picture"),
    };
    let epoch = NewEpoch {
        name: "creatures".to_owned(),
        description: String::new(),
        epoch: 1,
        dimension: 4,
        kind: VectorKind::F32,
        space_digest: "a".repeat(64),
        entries: vec![entry("dribago"), entry("quopple")],
        vectors: Vectors { index: Bytes::from_static(b"vectors"), keys: None },
    };
    write_epoch(&folder, epoch).await.unwrap();
    let live = Live::open(folder.clone(), Captions).await.unwrap();
    (directory, folder, live)
}

/// Commits the next epoch, in which these are deleted of the two.
async fn delete(live: &Live<Captions>, epoch: u64, positions: &[u32]) -> String {
    let mut manifest = live.current().0.clone();
    let folder = live.epochs().folder();
    manifest.segments[0].delete(folder, &positions.iter().collect(), false).await.unwrap();
    (manifest.epoch, manifest.schema) = (epoch, 4);
    assert!(live.epochs().commit(&manifest).await.unwrap());
    manifest.segments[0].deleted.as_ref().unwrap().file.path.clone()
}

#[tokio::test]
async fn later_epochs_are_taken_up_and_older_ones_kept_for_a_while() {
    let (_directory, folder, live) = live().await;
    let first = live.current();
    assert!(Arc::ptr_eq(&live.refresh().await.unwrap(), &first));
    delete(&live, 2, &[0]).await;
    delete(&live, 3, &[1]).await;
    assert_eq!(live.refresh().await.unwrap().1, ["a dribago"]);
    assert_eq!(first.1.len(), 2, "whoever began with it keeps it");
    let digest = first.0.content_digest();
    let is_first = |epoch: &(Manifest, _)| epoch.0.content_digest() == digest;
    assert!(live.find(is_first).is_some());
    live.drop_older();
    assert!(live.find(is_first).is_none());
    // One that was passed over.
    assert_eq!(live.recall(2).await.unwrap().1, ["a quopple"]);
    assert!(live.find(|epoch| epoch.0.epoch == 2).is_some());
    assert!(live.recall(9).await.is_none());
    assert_eq!(live.current().0.epoch, 3);
    let anew = Live::open(folder, Captions).await.unwrap();
    assert_eq!(anew.current().1, ["a dribago"]);
}

#[tokio::test]
async fn a_damaged_epoch_is_named_and_the_one_before_keeps_serving() {
    let (directory, folder, live) = live().await;
    delete(&live, 2, &[0]).await;
    let damaged = delete(&live, 3, &[1]).await;
    std::fs::write(directory.path().join(&damaged), "something else").unwrap();
    let refreshed = live.refresh().await.unwrap();
    assert_eq!((refreshed.0.epoch, refreshed.1.as_slice()), (2, &["a quopple".to_owned()][..]));
    let error = live.refresh().await.unwrap_err().to_string();
    assert!(error.contains("epochs/000000000003.json"), "{error}");
    assert_eq!(live.current().0.epoch, 2);
    let anew = Live::open(folder.clone(), Captions).await.unwrap();
    assert_eq!(anew.current().0.epoch, 2);
    assert!(anew.refresh().await.unwrap_err().to_string().contains(&damaged), "the file is named");
    // One that can be read mends it.
    delete(&live, 4, &[1]).await;
    assert_eq!(live.refresh().await.unwrap().0.epoch, 4);

    std::fs::write(directory.path().join("epochs/000000000005.json"), "{").unwrap();
    assert!(live.refresh().await.unwrap_err().to_string().contains("000000000005.json"));
    assert_eq!(Live::open(folder, Captions).await.unwrap().current().0.epoch, 4);
}

#[tokio::test]
async fn what_cannot_be_read_is_not_committed() {
    let (directory, _folder, live) = live().await;
    let next = |live: &Live<Captions>| {
        let mut manifest = live.current().0.clone();
        (manifest.epoch, manifest.schema) = (manifest.epoch + 1, 4);
        manifest
    };
    let mut torn = next(&live);
    torn.segments[0].delete(live.epochs().folder(), &[1].iter().collect(), false).await.unwrap();
    let file = directory.path().join(&torn.segments[0].deleted.as_ref().unwrap().file.path);
    std::fs::write(file, "something else").unwrap();
    assert!(live.commit(torn).await.unwrap_err().to_string().contains("damaged"));
    assert!(live.epochs().numbers(None).await.unwrap().is_empty());
    let mut good = next(&live);
    good.segments[0].delete(live.epochs().folder(), &[0].iter().collect(), false).await.unwrap();
    assert_eq!(live.commit(good.clone()).await.unwrap().unwrap().1, ["a quopple"]);
    assert!(live.commit(good).await.unwrap().is_none(), "it does not follow itself");
    // Another writer is faster.
    delete(&live, 3, &[1]).await;
    let mut late = next(&live);
    late.description = "late".to_owned();
    assert!(live.commit(late).await.unwrap().is_none());
    assert_eq!(live.refresh().await.unwrap().1, ["a dribago"]);
}

#[tokio::test]
async fn epochs_of_which_some_were_removed_are_found_in_time() {
    let (_directory, _folder, live) = live().await;
    for epoch in 2..40 {
        delete(&live, epoch, &[0]).await;
    }
    assert_eq!(live.refresh().await.unwrap().0.epoch, 39, "the last one is found from the list");
    delete(&live, 40, &[0]).await;
    delete(&live, 41, &[1]).await;
    live.epochs().remove(40).await.unwrap();
    assert_eq!(live.refresh().await.unwrap().0.epoch, 39);
    live.turn.lock().await.listed -= LIST_EVERY;
    assert_eq!(live.refresh().await.unwrap().0.epoch, 41);
}
