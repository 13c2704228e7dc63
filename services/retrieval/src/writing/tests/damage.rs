//! Damaged files are told, and hold up as little as can be.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_holds_up_nothing_but_itself() {
    let bench = Bench::new().await;
    let many: Vec<String> = (0..40).map(|number| format!("d{number}")).collect();
    let damaged: Vec<(&str, &str)> = many.iter().map(|id| (id.as_str(), "a zunin")).collect();
    bench.upsert(&damaged).await;
    let file = format!("segments/{}/vectors.usearch", bench.base().manifest.segments[0].name);
    std::fs::write(bench.directory.path().join(&file), "something else").unwrap();
    bench.upsert(&[("kept", "a paru")]).await;
    bench.snapshot(SnapshotChange::Create("with-a-leka".to_owned())).await.unwrap();
    bench.upsert(&[("good", "a leka")]).await;
    let forget = |id: &str| Change::Delete { ids: vec![id.to_owned()], forget: true };
    let marked = bench.writer.change(forget("d1"), Permit::default()).await.unwrap();
    let why = bench.writer.has_forgotten(&bench.live, &marked).await.unwrap_err();
    assert!(why.contains(&file), "{why}");
    assert!(bench.base().key("d1").is_none(), "it is not found all the same");
    bench.delete(&["good"], true).await;
    assert_eq!(bench.files_with("a leka"), Vec::<PathBuf>::new());
    for number in 0..9 {
        bench.upsert(&[(&format!("e{number}"), "a quopple")]).await;
    }
    bench.becomes(|bench| bench.base().manifest.segments.len() <= 9).await;
    // A segment that only a snapshot has, and that cannot be read.
    bench.delete(&["kept"], false).await;
    let kept = bench.base().manifest.snapshots["with-a-leka"].segments[1].name.clone();
    let file = format!("segments/{kept}/entries.jsonl");
    std::fs::write(bench.directory.path().join(&file), "something else").unwrap();
    let told = bench.writer.change(forget("e1"), Permit::default()).await.unwrap().told;
    assert!(told.unreadable.is_some_and(|why| why.contains(&file)));
    assert!(bench.base().key("e1").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_stored_is_refused() {
    let bench = Bench::new().await;
    bench.upsert(&[("a", "a zunin")]).await;
    // A later epoch that cannot be read: what it says is not known, so nothing is written after it.
    let later = bench.directory.path().join("epochs/000000000003.json");
    std::fs::write(&later, "{").unwrap();
    let change = || Change::Upsert(vec![new("b", "a leka")]);
    let refused = bench.writer.change(change(), Permit::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("000000000003.json"), "{refused}");
    assert_eq!(bench.base().manifest.present(), 1);
    std::fs::remove_file(later).unwrap();
    // Not at once: what is damaged is not read all the time.
    let stored = async {
        while bench.writer.change(change(), Permit::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stored).await.unwrap();
    assert_eq!(bench.base().manifest.present(), 2);
    // Of a vector that cannot be indexed nothing is stored.
    let wrong = NewEntry { vector: vec![0.0; 4], ..new("c", "a paru") };
    assert!(bench.writer.change(Change::Upsert(vec![wrong]), Permit::default()).await.is_err());
    assert_eq!(bench.base().manifest.present(), 2);
}

/// Merging goes around it, however small it is.
#[tokio::test(flavor = "multi_thread")]
async fn segments_beside_a_damaged_one_are_merged() {
    let bench = Bench::new().await;
    bench.upsert(&[("first", "a zunin")]).await;
    let damaged = bench.base().manifest.segments[0].name.clone();
    let file = bench.directory.path().join(format!("segments/{damaged}/vectors.usearch"));
    std::fs::write(file, "something else").unwrap();
    for number in 0..40 {
        bench.upsert(&[(&format!("e{number}"), "a quopple")]).await;
    }
    bench.becomes(|bench| bench.base().manifest.segments.len() <= 10).await;
    assert_eq!(bench.base().manifest.segments[0].name, damaged);
    assert_eq!(bench.base().manifest.present(), 41);
}

/// What was to be merged is not written again and again.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_while_a_later_epoch_is_damaged() {
    let bench = Bench::new().await;
    for number in 0..8 {
        bench.upsert(&[(&format!("e{number}"), "a quopple")]).await;
    }
    // Another writer, which does no upkeep: now there is something to be merged. And then a damaged epoch.
    let other = Committer::new(open(&bench.directory).await);
    other.commit(&[&Change::Upsert(vec![new("ninth", "a leka")])]).await.unwrap();
    let next = bench.base().epoch + 2;
    std::fs::write(bench.directory.path().join(format!("epochs/{next:012}.json")), "{").unwrap();
    assert!(bench.live.refresh().await.is_err());
    assert_eq!(bench.base().manifest.segments.len(), 9, "it is seen");
    bench.writer.rounds.send_modify(|rounds| *rounds += 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.live.epochs().segments().await.unwrap().len(), 9, "and not merged");
}

/// Which entries of a snapshot are deleted may not be known, and those of the present epoch are forgotten all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_bitmap_of_a_snapshot_is_told_and_holds_up_nothing() {
    let bench = Bench::new().await;
    bench.upsert(&[("a", "a zunin"), ("b", "a leka"), ("c", "a paru"), ("d", "a quopple")]).await;
    bench.delete(&["b"], false).await;
    bench.snapshot(SnapshotChange::Create("kept".to_owned())).await.unwrap();
    let segment = bench.base().manifest.snapshots["kept"].segments[0].clone();
    bench.delete(&["c"], false).await;
    let file = &segment.deleted.as_ref().unwrap().file.path;
    std::fs::write(bench.directory.path().join(file), "something else").unwrap();
    let forget = Change::Delete { ids: vec!["a".to_owned()], forget: true };
    let told = bench.writer.change(forget, Permit::default()).await.unwrap().told;
    assert!(told.unreadable.is_some_and(|why| why.contains(file)));
    assert!(bench.base().key("a").is_none());
    bench.upsert(&[("e", "another one")]).await;
}
