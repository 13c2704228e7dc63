//! What is forgotten is nowhere, in whatever way it came to be where it was.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_nowhere() {
    let bench = Bench::new().await;
    bench.upsert(&[("a", "a zunin in the meadow"), ("b", "a leka")]).await;
    bench.upsert(&[("c", "a paru")]).await;
    bench.snapshot(SnapshotChange::Create("before".to_owned())).await.unwrap();
    bench.delete(&["b"], false).await;
    assert!(!bench.files_with("a leka").is_empty(), "what is deleted is in the snapshot");
    let stored = bench.delete(&["a", "b", "none"], true).await;
    assert_eq!(stored.told.missing, ["none"]);
    for gone in ["zunin", "leka"] {
        assert_eq!(bench.files_with(gone), Vec::<PathBuf>::new());
    }
    let restored = bench.snapshot(SnapshotChange::Restore("before".to_owned())).await.unwrap();
    assert_eq!(restored.manifest.present(), 1);
    let ids: Vec<String> = present(&bench.base()).into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, ["c"]);
    // It may come back, as something new.
    bench.upsert(&[("a", "another zunin")]).await;
    assert_eq!(bench.base().manifest.present(), 2);
}

/// Changes that wait are stored together: what was there before is forgotten, and what came after is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_may_be_stored_anew_at_the_same_time() {
    for _ in 0..10 {
        let bench = Bench::new().await;
        bench.upsert(&[("a", "the old zunin")]).await;
        let ids = || vec!["a".to_owned()];
        let (forget, again) = tokio::join!(
            bench.writer.change(Change::Delete { ids: ids(), forget: true }, Permit::default()),
            bench.writer.change(Change::Upsert(vec![new("a", "the new one")]), Permit::default()),
        );
        let marked = forget.unwrap();
        again.unwrap();
        bench.writer.has_forgotten(&bench.live, &marked).await.unwrap();
        assert_eq!(bench.files_with("the old zunin"), Vec::<PathBuf>::new());
        let there = present(&bench.live.refresh().await.unwrap());
        assert_eq!(there.iter().map(|entry| entry.caption.as_str()).collect::<Vec<_>>(), ["the new one"]);
    }
}

/// A merge that began before something was forgotten takes it along, and nothing is left of it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_while_segments_are_merged_is_nowhere() {
    let bench = Bench::new().await;
    for number in 0..9 {
        // One by one, so that the last of them begins a merge.
        bench.upsert(&[(&format!("e{number}"), &format!("zunin number {number}."))]).await;
    }
    let (stored, forgotten) =
        tokio::join!(bench.upsert(&[("last", "a leka")]), bench.delete(&["e3", "e8"], true));
    assert!(stored.manifest.epoch > 1 && forgotten.told.missing.is_empty());
    bench.is_kept_up().await;
    for gone in ["zunin number 3.", "zunin number 8."] {
        assert_eq!(bench.files_with(gone), Vec::<PathBuf>::new(), "{gone}");
    }
    assert_eq!(bench.base().manifest.present(), 8);
}

/// Copies that no epoch lists any more, in whatever way they came to be.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_nowhere_even_where_it_was_before() {
    let bench = Bench::new().await;
    let folder = bench.live.epochs().folder().clone();
    bench.upsert(&[("a", "the first zunin"), ("b", "the first leka"), ("c", "the first paru")]).await;
    let first = bench.base().manifest.segments[0].name.clone();
    // Left by writers that were killed: a segment without an epoch, and a file half written.
    for file in ["entries.jsonl", "images.pack"] {
        let bytes = folder.read(&format!("segments/{first}/{file}"), 1 << 20).await.unwrap();
        folder.create(&format!("segments/000002-0000000000000000/{file}"), bytes).await.unwrap();
    }
    let torn = bench.directory.path().join("segments/000003-0000000000000000");
    std::fs::create_dir(&torn).unwrap();
    std::fs::write(torn.join("images.pack#1"), "picture of a: the first zunin").unwrap();
    // Replaced, deleted, and merged.
    bench.upsert(&[("a", "the second zunin")]).await;
    bench.delete(&["b"], false).await;
    for number in 0..9 {
        bench.upsert(&[(&format!("e{number}"), "a quopple")]).await;
    }
    let base = bench.is_kept_up().await;
    assert!(base.manifest.segments.iter().all(|segment| segment.name != first), "it was merged");
    for gone in ["zunin", "leka"] {
        assert!(bench.files_with(gone).len() > 2, "{gone} is still to be found");
    }
    for (id, gone, missing) in [("b", "leka", &["b"][..]), ("a", "zunin", &[])] {
        let told = bench.delete(&[id, id], true).await.told;
        assert_eq!(told.missing, missing, "whether it was deleted before");
        assert_eq!(bench.files_with(gone), Vec::<PathBuf>::new());
    }
    assert!(bench.delete(&["e1", "e1"], false).await.told.missing.is_empty());
    let opened = open(&bench.directory).await.current().unwrap();
    assert_eq!(opened.manifest.present(), 9);
    assert!(opened.key("c").is_some());
}

/// The first epoch's segment is one like any other, and who reads only `manifest.json` gets a later epoch.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_nowhere_in_a_base_that_was_built() {
    let directory = tempfile::tempdir().unwrap();
    let captions = ["a zunin".to_owned(), "a leka".to_owned()];
    crate::knowledge_base::tests::write(directory.path().to_str().unwrap(), &captions, PNG).await;
    // Its vectors are not looked at, but here they are.
    let rows: Vec<Vec<f32>> = ["0", "1"].map(vector).to_vec();
    let index = reverie_knowledge::index::build_index(4, VectorKind::F32, &rows, 1).unwrap().index;
    let path = directory.path().join("segments/000001/vectors.usearch");
    std::fs::write(path, &index).unwrap();
    let path = directory.path().join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let digest = reverie_storage::FileDigest::of("segments/000001/vectors.usearch", &index);
    manifest["segments"][0]["files"][2] = serde_json::to_value(digest).unwrap();
    std::fs::write(&path, manifest.to_string()).unwrap();

    let bench = Bench::of(directory).await;
    bench.delete(&["0"], true).await;
    assert_eq!(bench.files_with("a zunin"), Vec::<PathBuf>::new());
    let first = Manifest::read(bench.live.epochs().folder()).await.unwrap();
    assert_eq!(first, bench.base().manifest);
    let ids = present(&bench.base()).into_iter().map(|entry| entry.id);
    assert_eq!(ids.collect::<Vec<_>>(), ["1"]);
}

/// A writer that was killed after it had stored the epoch without them, and before their files were removed.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_next_removes_what_is_forgotten() {
    let mut bench = Bench::new().await;
    bench.upsert(&[("a", "a zunin"), ("b", "a leka")]).await;
    let before: Vec<(PathBuf, Vec<u8>)> = walk(&bench.directory.path().join("segments"))
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let marked = bench.delete(&["a"], true).await;
    bench.tasks.shutdown().await;
    let put_back = || {
        for (path, bytes) in &before {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        assert_eq!(bench.files_with("zunin").len(), 2);
    };
    put_back();
    bench.writer.has_forgotten(&bench.live, &marked).await.unwrap();
    assert_eq!(bench.files_with("zunin"), Vec::<PathBuf>::new(), "whoever asks again");
    put_back();
    let live = open(&bench.directory).await;
    let mut tasks = JoinSet::new();
    Writer::start(&live, &mut tasks);
    // And so does a service that starts.
    bench.becomes(|bench| bench.files_with("zunin").is_empty()).await;
    assert_eq!(live.current().unwrap().manifest.present(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_to_a_writer_that_forgets_all_the_time() {
    const CHANGES: usize = 40;
    let first = Bench::new().await;
    let (live, mut tasks) = (open(&first.directory).await, JoinSet::new());
    let other = Writer::start(&live, &mut tasks);
    let writing = async {
        for change in 0..CHANGES {
            let entries = vec![new(&format!("own-{change}"), "a paru"), new("shared", "a zunin")];
            other.change(Change::Upsert(entries), Permit::default()).await.unwrap();
        }
    };
    let forgetting = async {
        for _ in 0..CHANGES {
            first.delete(&["shared"], true).await;
        }
    };
    tokio::join!(writing, forgetting);
    first.delete(&["shared"], true).await;
    assert_eq!(first.files_with("zunin"), Vec::<PathBuf>::new());
    let base = open(&first.directory).await.current().unwrap();
    assert_eq!(present(&base).len(), CHANGES);
}

/// Forgetting what is not there makes what is being written void, and it is written all the same.
#[tokio::test(flavor = "multi_thread")]
async fn forgetting_nothing_again_and_again_holds_up_nothing() {
    let bench = Bench::new().await;
    let many: Vec<String> = (0..3000).map(|number| format!("d{number}")).collect();
    for ids in many.chunks(300) {
        let entries: Vec<(&str, &str)> =
            ids.iter().map(|id| (id.as_str(), "a zunin in the meadow")).collect();
        bench.upsert(&entries).await;
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    let nothing = async {
        let mut times = 0;
        while !done.load(Ordering::SeqCst) {
            bench.delete(&["none"], true).await;
            times += 1;
        }
        times
    };
    let something = async {
        for number in 0..10 {
            let id = format!("d{}", 300 * number);
            let ids = [id.as_str()];
            let forgotten = bench.delete(&ids, true);
            tokio::time::timeout(Duration::from_secs(20), forgotten).await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
    };
    let (times, ()) = tokio::join!(nothing, something);
    assert!(times > 5, "{times}");
    for number in 0..10 {
        let gone = format!("picture of d{}: ", 300 * number);
        assert_eq!(bench.files_with(&gone), Vec::<PathBuf>::new());
    }
    assert_eq!(bench.is_kept_up().await.manifest.present(), 2990);
}
