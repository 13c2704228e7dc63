//! Changes, one after another and at the same time, against a model of what they should come to.

mod damage;
mod forgetting;
mod lost_answers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie_knowledge::epoch::{
    Entry, Label, Metadata, NewEpoch, Segment, Value, VectorKind, Vectors, write_empty, write_epoch,
};
use reverie_knowledge::{Epochs, Read as _};
use reverie_service_kit::Permit;
use reverie_storage::Folder;
use tonic::Code;

use super::*;
use crate::knowledge_base::KnowledgeBase;
use crate::knowledge_base::tests::{PNG, reader};
use crate::naming::Named;

const WORDS: [&str; 12] = [
    "zunin", "leka", "paru", "quopple", "dribago", "meadow", "snow", "small", "red", "dragon", "left",
    "forest",
];
const TEXTS: [&str; 6] = [
    "a small zunin, snow",
    "red dragon in the forest",
    "a leka and a paru",
    "meadow",
    "a zunim",
    "a quopple on the left, dribago",
];

/// A knowledge base that is changed, and what serves it.
struct Bench {
    directory: tempfile::TempDir,
    live: Arc<Live<Reader>>,
    writer: Writer,
    tasks: JoinSet<()>,
}

async fn open(directory: &tempfile::TempDir) -> Arc<Live<Reader>> {
    let folder = Folder::open(directory.path().to_str().unwrap()).unwrap();
    Arc::new(Live::open(folder, reader("creatures")).await.unwrap())
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path().to_str().unwrap()).unwrap();
        write_empty(&folder, "creatures".to_owned(), String::new(), 4, VectorKind::F32, "a".repeat(64))
            .await
            .unwrap();
        Self::of(directory).await
    }

    async fn of(directory: tempfile::TempDir) -> Self {
        let live = open(&directory).await;
        let mut tasks = JoinSet::new();
        let writer = Writer::start(&live, &mut tasks);
        Self { directory, live, writer, tasks }
    }

    async fn upsert(&self, entries: &[(&str, &str)]) -> Stored {
        let entries = entries.iter().map(|(id, caption)| new(id, caption)).collect();
        self.writer.change(Change::Upsert(entries), Permit::default()).await.unwrap()
    }

    async fn delete(&self, ids: &[&str], forget: bool) -> Stored {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let stored = self.writer.change(Change::Delete { ids, forget }, Permit::default()).await.unwrap();
        if forget {
            self.writer.has_forgotten(&self.live, &stored).await.unwrap();
        }
        stored
    }

    async fn snapshot(&self, change: SnapshotChange) -> Result<Stored, Status> {
        self.writer.change(Change::Snapshot(change), Permit::default()).await
    }

    fn base(&self) -> Arc<KnowledgeBase> {
        self.live.current().unwrap()
    }

    /// Waits until it is so.
    async fn becomes(&self, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    /// Waits until upkeep has nothing left to do.
    async fn is_kept_up(&self) -> Arc<KnowledgeBase> {
        let mut rounds = self.writer.rounds.subscribe();
        loop {
            let base = self.live.current().unwrap();
            if reverie_knowledge::compaction::choose(&base.manifest.segments).is_none() {
                return base;
            }
            rounds.changed().await.unwrap();
        }
    }

    /// Every file below its folder that has these bytes.
    fn files_with(&self, bytes: &str) -> Vec<PathBuf> {
        let mut files = walk(self.directory.path());
        let has = |file: &[u8]| file.windows(bytes.len()).any(|window| window == bytes.as_bytes());
        // What is not needed may be removed meanwhile.
        files.retain(|path| std::fs::read(path).is_ok_and(|file| has(&file)));
        files
    }
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// A vector that the id alone decides.
fn vector(id: &str) -> Vec<f32> {
    let sum = id.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    (0..4).map(|place| ((sum >> (8 * place)) & 0xff) as f32 + 1.0).collect()
}

fn new(id: &str, caption: &str) -> NewEntry {
    let metadata = Metadata::from([("length".to_owned(), Value::Number(caption.len() as f64))]);
    NewEntry {
        label: Label { id: id.to_owned(), caption: caption.to_owned(), attribution: String::new(), metadata },
        image: [PNG, format!("picture of {id}: {caption}").as_bytes()].concat().into(),
        vector: vector(id),
    }
}

/// The entries that are there, in order.
fn present(base: &KnowledgeBase) -> Vec<Entry> {
    let mut entries = Vec::new();
    for key in 0..base.entries.count() {
        let entry = base.entries.get(key).unwrap();
        if base.key(&entry.id) == Some(key) {
            entries.push(entry.clone());
        }
    }
    entries
}

/// The same entries as if they had been stored at once.
async fn rebuilt(entries: Vec<Entry>) -> KnowledgeBase {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::open(directory.path().to_str().unwrap()).unwrap();
    let epoch = NewEpoch {
        name: "creatures".to_owned(),
        description: String::new(),
        epoch: 1,
        dimension: 4,
        kind: VectorKind::F32,
        space_digest: "a".repeat(64),
        entries,
        vectors: Vectors { index: Bytes::from_static(b"not looked at here"), keys: None },
    };
    let manifest = write_epoch(&folder, epoch).await.unwrap();
    reader("creatures").read(&folder, manifest, None).await.unwrap()
}

/// What a search finds.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// By all words: the ids, with their scores.
    plain: Vec<(String, String)>,
    /// By what the text names.
    named: Vec<(String, String)>,
    unmatched: Vec<String>,
}

fn found(base: &KnowledgeBase, text: &str) -> Found {
    let id = |key: u64| base.entries.get(key).unwrap().id.clone();
    let plain = base.captions.search(text, 20, &None).unwrap();
    let plain = plain.iter().map(|hit| (id(hit.key), format!("{:.4}", hit.score))).collect();
    let named = Named::find(&base.names(), text, 64, &None).unwrap();
    let Some(named) = named else { return Found { plain, ..Found::default() } };
    let ranked = named.rank(&named.by_words, 20);
    let ranked = ranked.iter().map(|found| (id(found.key), format!("{:.4}", found.share))).collect();
    Found { plain, named: ranked, unmatched: named.unmatched }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_to_what_they_say_and_searches_to_what_a_new_base_would_find() {
    for seed in 0..3 {
        let mut draw = StdRng::seed_from_u64(seed);
        let bench = Bench::new().await;
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        for step in 0..60 {
            let id = format!("e{}", draw.random_range(0..25));
            if draw.random_bool(0.3) {
                let forget = draw.random_bool(0.2);
                let stored = bench.delete(&[&id], forget).await;
                let was_there = model.remove(&id).is_some();
                assert!(!was_there || stored.told.missing.is_empty(), "seed {seed}, step {step}");
                assert!(was_there || forget || stored.told.missing == [id], "seed {seed}, step {step}");
            } else {
                let words: Vec<&str> = (0..5).map(|_| WORDS[draw.random_range(0..WORDS.len())]).collect();
                let caption = format!("a {}", words.join(" "));
                let told = bench.upsert(&[(&id, &caption)]).await.told;
                let was_there = model.insert(id, caption).is_some();
                assert_eq!((told.replaced, told.inserted), (was_there.into(), (!was_there).into()));
            }
            if step % 12 != 11 || model.is_empty() {
                continue;
            }
            let base = bench.live.refresh().await.unwrap();
            let there = present(&base);
            let told: BTreeMap<String, String> =
                there.iter().map(|entry| (entry.id.clone(), entry.caption.clone())).collect();
            assert_eq!((told.len(), &told), (there.len(), &model), "seed {seed}, step {step}");
            assert_eq!(base.manifest.present(), model.len() as u64);
            for entry in &there {
                assert_eq!(
                    entry.image,
                    new(&entry.id, &entry.caption).image,
                    "a picture is that of its caption"
                );
            }
            let anew = rebuilt(there).await;
            for text in TEXTS {
                assert_eq!(found(&base, text), found(&anew, text), "seed {seed}, step {step}, {text}");
            }
        }
        assert!(bench.is_kept_up().await.manifest.segments.len() <= 9);
        let opened = open(&bench.directory).await.current().unwrap();
        assert_eq!(opened.content_digest, bench.live.refresh().await.unwrap().content_digest);
    }
}

/// What is worked out of many captions is stored with them.
#[tokio::test(flavor = "multi_thread")]
async fn many_captions_are_not_indexed_again() {
    let bench = Bench::new().await;
    for batch in 0..9 {
        let entries: Vec<(String, String)> = (0..120)
            .map(|at| {
                (
                    format!("e{batch}-{at}"),
                    format!("a {} in the {}", WORDS[at % 12], WORDS[(batch + at / 12) % 12]),
                )
            })
            .collect();
        let entries: Vec<_> = entries.iter().map(|(id, caption)| (id.as_str(), caption.as_str())).collect();
        bench.upsert(&entries).await;
    }
    let base = bench.is_kept_up().await;
    let [segment] = &base.manifest.segments[..] else { panic!("{:?}", base.manifest.segments) };
    let file = bench.directory.path().join(&segment.captions_file().unwrap().path);
    bench.delete(&["e3-7"], false).await;
    let opened = open(&bench.directory).await.current().unwrap();
    let anew = rebuilt(present(&opened)).await;
    for text in TEXTS {
        assert_eq!(found(&opened, text), found(&anew, text), "{text}");
    }
    std::fs::write(&file, "something else").unwrap();
    let error = open(&bench.directory).await.current().err().unwrap().to_string();
    assert!(error.contains("captions.index"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_in_several_processes_lose_nothing_and_double_nothing() {
    const WRITERS: usize = 3;
    const CHANGES: usize = 25;
    let first = Bench::new().await;
    let mut writing = Vec::new();
    let mut others = Vec::new();
    for number in 0..WRITERS {
        let live = open(&first.directory).await;
        let mut tasks = JoinSet::new();
        let writer = Writer::start(&live, &mut tasks);
        others.push((live, tasks));
        writing.push(tokio::spawn(async move {
            for change in 0..CHANGES {
                let (own, shared) = (format!("own-{number}-{change}"), format!("shared-{}", change % 5));
                let caption = format!("by {number}");
                let entries = vec![new(&own, &caption), new(&shared, &caption)];
                writer.change(Change::Upsert(entries), Permit::default()).await.unwrap();
            }
        }));
    }
    for writing in writing {
        writing.await.unwrap();
    }
    let base = first.live.refresh().await.unwrap();
    let there = present(&base);
    assert_eq!(there.len(), WRITERS * CHANGES + 5);
    assert_eq!(base.manifest.present() as usize, there.len());
    let mut ids: Vec<&str> = there.iter().map(|entry| entry.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), there.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_kept_restored_and_deleted() {
    let bench = Bench::new().await;
    bench.upsert(&[("a", "a zunin"), ("b", "a leka")]).await;
    let made = bench.snapshot(SnapshotChange::Create("first".to_owned())).await.unwrap();
    assert_eq!((made.manifest.snapshots["first"].epoch, made.manifest.epoch), (2, 3));
    let again = bench.snapshot(SnapshotChange::Create("first".to_owned())).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    bench.upsert(&[("a", "a paru"), ("c", "a quopple")]).await;
    bench.delete(&["b"], false).await;
    bench.is_kept_up().await;
    bench.snapshot(SnapshotChange::Restore("first".to_owned())).await.unwrap();
    let captions: Vec<String> = present(&bench.base()).into_iter().map(|entry| entry.caption).collect();
    assert_eq!(captions, ["a zunin", "a leka"]);
    let epoch = bench.base().epoch;
    let same = bench.snapshot(SnapshotChange::Restore("first".to_owned())).await.unwrap();
    assert_eq!(same.manifest.epoch, epoch, "nothing changes");
    let missing = bench.snapshot(SnapshotChange::Restore("second".to_owned())).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains("first"), "{missing}");
    bench.snapshot(SnapshotChange::Delete("first".to_owned())).await.unwrap();
    bench.snapshot(SnapshotChange::Delete("first".to_owned())).await.unwrap();
    assert!(bench.base().manifest.snapshots.is_empty());
    for number in 0..16 {
        bench.snapshot(SnapshotChange::Create(format!("s{number}"))).await.unwrap();
    }
    let full = bench.snapshot(SnapshotChange::Create("s16".to_owned())).await.unwrap_err();
    assert!(full.message().contains("delete one first"), "{full}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_epoch_needs_is_removed_in_time() {
    let bench = Bench::new().await;
    for number in 0..30 {
        let caption = format!("picture {number}");
        bench.upsert(&[("same", &caption), (&format!("e{number}"), &caption)]).await;
    }
    bench.snapshot(SnapshotChange::Create("kept".to_owned())).await.unwrap();
    bench.upsert(&[("same", "the last one")]).await;
    let base = bench.is_kept_up().await;
    let epochs = Epochs::new(bench.live.epochs().folder().clone());
    let stored = async || (epochs.numbers(None).await.unwrap(), epochs.segments().await.unwrap().len());
    let before = stored().await;
    garbage::collect(&bench.live, &bench.writer).await.unwrap();
    assert_eq!(before, stored().await, "nothing is old");
    let age = || {
        for file in walk(bench.directory.path()) {
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_modified(SystemTime::now() - 2 * Duration::from_hours(1)).unwrap();
        }
    };
    // Left by a writer that was killed.
    let torn = bench.directory.path().join("epochs/000000000099.json#7");
    std::fs::write(&torn, "{").unwrap();
    let new = Segment::new_name(base.epoch + 1);
    epochs
        .folder()
        .create(&format!("segments/{new}/images.pack"), Bytes::from_static(b"not yet"))
        .await
        .unwrap();
    age();
    garbage::collect(&bench.live, &bench.writer).await.unwrap();
    // One epoch says what is void, and it is the only one that is needed.
    assert_eq!(epochs.numbers(None).await.unwrap(), [base.epoch + 1]);
    assert!(!torn.exists());
    let listed: Vec<String> =
        epochs.folder().list("segments", None).await.unwrap().into_iter().map(|file| file.path).collect();
    let mut needed: Vec<&str> =
        base.manifest.all_segments().flat_map(Segment::all_files).map(|file| file.path.as_str()).collect();
    needed.sort_unstable();
    needed.dedup();
    assert_eq!(listed.len(), needed.len(), "{listed:?}");
    // Nothing more comes of it, however often it is done.
    age();
    garbage::collect(&bench.live, &bench.writer).await.unwrap();
    assert_eq!(epochs.numbers(None).await.unwrap(), [base.epoch + 1]);
    let opened = open(&bench.directory).await;
    assert_eq!(opened.current().unwrap().manifest.segments, base.manifest.segments);
    bench.snapshot(SnapshotChange::Restore("kept".to_owned())).await.unwrap();
    assert_eq!(bench.live.refresh().await.unwrap().manifest.present(), 31);
}
