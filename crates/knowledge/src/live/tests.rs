//! A knowledge base that is followed, and what is passed over.

use std::collections::BTreeSet;

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
    let mut manifest = live.current().unwrap().0.clone();
    let folder = live.epochs().folder();
    let positions = positions.iter().collect();
    manifest.segments[0].delete(folder, epoch, &positions, BTreeSet::new()).await.unwrap();
    let before = manifest.clone();
    (manifest.epoch, manifest.schema) = (epoch, 4);
    assert_eq!(live.epochs().commit(&manifest, &before).await.unwrap(), Commit::Stored);
    manifest.segments[0].deleted.as_ref().unwrap().file.path.clone()
}

#[tokio::test]
async fn later_epochs_are_taken_up_and_older_ones_kept_for_a_while() {
    let (_directory, folder, live) = live().await;
    let first = live.current().unwrap();
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
    assert_eq!(live.current().unwrap().0.epoch, 3);
    let anew = Live::open(folder, Captions).await.unwrap();
    assert_eq!(anew.current().unwrap().1, ["a dribago"]);
}

/// As if all pauses were over.
async fn time_goes_by(live: &Live<Captions>) {
    if let Some(damage) = &mut live.turn.lock().await.damage {
        damage.pause = Duration::ZERO;
    }
}

#[tokio::test]
async fn a_damaged_epoch_is_named_and_what_is_loaded_keeps_serving() {
    let (directory, folder, live) = live().await;
    delete(&live, 2, &[0]).await;
    let damaged = delete(&live, 3, &[1]).await;
    let good = std::fs::read(directory.path().join(&damaged)).unwrap();
    std::fs::write(directory.path().join(&damaged), "something else").unwrap();
    for _ in 0..2 {
        let error = live.refresh().await.unwrap_err().to_string();
        assert!(error.contains(&damaged), "{error}");
        assert_eq!(live.current().unwrap().1, ["a quopple"], "the later of those that can be loaded");
        time_goes_by(&live).await;
    }
    // Whoever starts now does not go back to an epoch in which there is what was deleted since.
    let anew = Live::open(folder.clone(), Captions).await.unwrap();
    let error = anew.current().unwrap_err().to_string();
    assert!(error.contains(&damaged), "{error}");
    // It is not read again all the time.
    std::fs::write(directory.path().join(&damaged), good).unwrap();
    assert!(anew.refresh().await.unwrap_err().to_string().contains("in a while"));
    time_goes_by(&anew).await;
    assert_eq!(anew.refresh().await.unwrap().1, ["a dribago"]);
    time_goes_by(&live).await;
    assert_eq!(live.refresh().await.unwrap().1, ["a dribago"]);

    // One that can be read mends it, too.
    let bad = directory.path().join("epochs/000000000004.json");
    std::fs::write(&bad, "{").unwrap();
    assert!(live.refresh().await.unwrap_err().to_string().contains("000000000004.json"));
    assert!(Live::open(folder.clone(), Captions).await.unwrap().current().is_err());
    delete(&live, 5, &[0]).await;
    time_goes_by(&live).await;
    assert_eq!(live.refresh().await.unwrap().1, ["a quopple"]);
    assert_eq!(Live::open(folder, Captions).await.unwrap().current().unwrap().0.epoch, 5);
}

#[tokio::test]
async fn pauses_between_attempts_grow_and_have_an_end() {
    let (directory, _folder, live) = live().await;
    std::fs::create_dir(directory.path().join("epochs")).unwrap();
    std::fs::write(directory.path().join("epochs/000000000002.json"), "{").unwrap();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert!(live.refresh().await.is_err());
        let mut turn = live.turn.lock().await;
        let damage = turn.damage.as_mut().unwrap();
        pauses.push(damage.pause.as_millis());
        damage.seen -= damage.pause;
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
}

#[tokio::test]
async fn no_knowledge_base_is_an_error_and_not_damage() {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::open(directory.path().to_str().unwrap()).unwrap();
    let error = Live::open(folder, Captions).await.unwrap_err().to_string();
    assert!(error.contains("manifest.json does not exist"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_committed() {
    let (directory, _folder, live) = live().await;
    let next = |live: &Live<Captions>| {
        let mut manifest = live.current().unwrap().0.clone();
        (manifest.epoch, manifest.schema) = (manifest.epoch + 1, 4);
        manifest
    };
    let mut torn = next(&live);
    let folder = live.epochs().folder();
    torn.segments[0].delete(folder, 2, &[1].iter().collect(), BTreeSet::new()).await.unwrap();
    let file = directory.path().join(&torn.segments[0].deleted.as_ref().unwrap().file.path);
    std::fs::write(file, "something else").unwrap();
    assert!(live.commit(torn).await.unwrap_err().to_string().contains("damaged"));
    assert!(live.epochs().numbers(None).await.unwrap().is_empty());
    let mut good = next(&live);
    good.segments[0].delete(folder, 2, &[0].iter().collect(), BTreeSet::new()).await.unwrap();
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
    live.turn.lock().await.listed = None;
    assert_eq!(live.refresh().await.unwrap().0.epoch, 41);
}

/// What a writer left that came too late, and ended before it removed it.
#[tokio::test]
async fn what_comes_after_a_removed_epoch_is_not_believed() {
    let (directory, _folder, live) = live().await;
    delete(&live, 2, &[0]).await;
    live.refresh().await.unwrap();
    let late = live.current().unwrap().0.clone();
    delete(&live, 3, &[0]).await;
    delete(&live, 9, &[1]).await;
    for epoch in [2, 3] {
        live.epochs().remove(epoch).await.unwrap();
    }
    let late = Manifest { epoch: 3, description: "late".to_owned(), ..late };
    std::fs::write(directory.path().join("epochs/000000000003.json"), late.to_bytes().unwrap()).unwrap();
    assert_eq!(live.refresh().await.unwrap().1, ["a dribago"], "that of epoch 9");
}
