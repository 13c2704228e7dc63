//! A store that does what it is told and then says that it failed, and one that fails before.

use std::fmt;
use std::sync::Mutex;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use reverie_storage::Storage;

use super::*;

type Outcome<T> = object_store::Result<T>;

#[derive(Debug)]
struct Unreliable {
    store: InMemory,
    draw: Mutex<StdRng>,
}

impl fmt::Display for Unreliable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(formatter)
    }
}

impl Unreliable {
    /// Fails one time of so many.
    fn may_fail(&self, of: u32) -> Outcome<()> {
        if self.draw.lock().unwrap().random_range(0..of) > 0 {
            return Ok(());
        }
        Err(StoreError::Generic { store: "unreliable", source: "the answer was lost".into() })
    }
}

#[tonic::async_trait]
impl ObjectStore for Unreliable {
    async fn put_opts(
        &self,
        path: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Outcome<PutResult> {
        self.may_fail(40)?;
        let put = self.store.put_opts(path, payload, options).await?;
        self.may_fail(if path.as_ref().starts_with("epochs/") { 3 } else { 40 })?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        path: &StorePath,
        options: PutMultipartOptions,
    ) -> Outcome<Box<dyn MultipartUpload>> {
        self.may_fail(40)?;
        self.store.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &StorePath, options: GetOptions) -> Outcome<GetResult> {
        self.may_fail(40)?;
        self.store.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Outcome<StorePath>>,
    ) -> BoxStream<'static, Outcome<StorePath>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Outcome<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Outcome<ListResult> {
        self.may_fail(40)?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> Outcome<()> {
        self.store.copy_opts(from, to, options).await
    }
}

/// Every call is made until it succeeds. What is there at the end is what was stored.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_lose_nothing_else() {
    for seed in 0..3 {
        let mut draw = StdRng::seed_from_u64(seed);
        let failing = Mutex::new(StdRng::seed_from_u64(seed + 100));
        let store = Arc::new(Unreliable { store: InMemory::new(), draw: failing });
        let folder = Folder::of_store(store, "memory:", Storage::of_the_process());
        let empty = || {
            let space = "a".repeat(64);
            write_empty(&folder, "creatures".to_owned(), String::new(), 4, VectorKind::F32, space)
        };
        while !matches!(empty().await, Err(reverie_storage::StorageError::AlreadyExists { .. })) {}
        let live = loop {
            if let Ok(live) = Live::open(folder.clone(), reader("creatures")).await
                && live.current().is_ok()
            {
                break Arc::new(live);
            }
        };
        let mut tasks = JoinSet::new();
        let writer = Writer::start(&live, &mut tasks);
        let (mut model, mut failed) = (BTreeMap::new(), 0);
        for step in 0..120 {
            let id = format!("e{}", draw.random_range(0..40));
            let (entry, forget) = (new(&id, &format!("step {step}")), draw.random_bool(0.5));
            let is_stored = draw.random_bool(0.7);
            let change = || {
                let ids = vec![id.clone()];
                if is_stored { Change::Upsert(vec![entry.clone()]) } else { Change::Delete { ids, forget } }
            };
            while let Err(status) = writer.change(change(), Permit::default()).await {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                failed += 1;
            }
            if is_stored {
                model.insert(id, format!("step {step}"));
            } else {
                model.remove(&id);
            }
        }
        assert!(failed > 5, "{failed} of 120");
        tasks.shutdown().await;
        let base = loop {
            if let Ok(live) = Live::open(folder.clone(), reader("creatures")).await
                && let Ok(base) = live.current()
            {
                break base;
            }
        };
        let there: BTreeMap<String, String> =
            present(&base).into_iter().map(|entry| (entry.id, entry.caption)).collect();
        assert_eq!(there, model, "seed {seed}");
    }
}
