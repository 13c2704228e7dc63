use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::*;
use crate::{Folder, Storage, Transfer, Watch};

/// Counts the downloads that ended.
#[derive(Debug, Default)]
struct Downloads(AtomicUsize);

impl Watch for Downloads {
    fn progress(&self, _: Transfer<'_>) {}

    fn ended(&self, _: &str) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Object storage in memory, and a cache before it.
struct Place {
    directory: tempfile::TempDir,
    store: Arc<InMemory>,
    downloads: Arc<Downloads>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, store: Arc::default(), downloads: Arc::default() }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    /// As another process would open it.
    fn folder(&self, max_bytes: u64) -> Folder {
        let storage = Storage::with_cache(Cache::new(self.cache(), max_bytes));
        let storage = storage.watched_by(Arc::clone(&self.downloads) as Arc<dyn Watch>);
        Folder::of_store(Arc::clone(&self.store) as Arc<dyn ObjectStore>, "memory://bucket", storage)
    }

    /// A file of `size` bytes in the store.
    async fn file(&self, name: &str, size: usize) -> FileDigest {
        let bytes: Vec<u8> = name.bytes().cycle().take(size).collect();
        self.store.put(&StorePath::from(name), bytes.clone().into()).await.unwrap();
        FileDigest::of(name, &bytes)
    }

    async fn lose(&self, file: &FileDigest) {
        self.store.delete(&StorePath::from(file.path.as_str())).await.unwrap();
    }

    fn kept(&self, file: &FileDigest) -> PathBuf {
        Cache::new(self.cache(), 0).path(&file.sha256)
    }

    fn downloads(&self) -> usize {
        self.downloads.0.load(Ordering::SeqCst)
    }

    /// What is left of downloads.
    fn parts(&self) -> usize {
        let names = fs::read_dir(self.cache().join("incoming")).unwrap();
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().starts_with(PART)).count()
    }
}

#[tokio::test]
async fn what_is_kept_is_not_downloaded_again() {
    let place = Place::new();
    let file = place.file("graph.onnx", 3 << 20).await;
    let first = place.folder(1 << 30).read_verified(&file).await.unwrap();
    place.lose(&file).await;
    assert_eq!(place.folder(1 << 30).read_verified(&file).await.unwrap(), first);
    let local = place.folder(1 << 30).local(&file).await.unwrap();
    assert_eq!(fs::read(local.path()).unwrap(), first);
    assert_eq!((place.downloads(), place.parts()), (1, 0));
}

#[tokio::test]
async fn a_file_that_was_damaged_in_the_cache_is_fetched_again() {
    let place = Place::new();
    let file = place.file("graph.onnx", 1000).await;
    let whole = place.folder(1 << 30).read_verified(&file).await.unwrap();
    for damage in [vec![0; 1000], vec![0; 999], Vec::new()] {
        fs::write(place.kept(&file), &damage).unwrap();
        assert_eq!(place.folder(1 << 30).read_verified(&file).await.unwrap(), whole);
        assert_eq!(fs::read(place.kept(&file)).unwrap(), whole);
        fs::write(place.kept(&file), &damage).unwrap();
        let local = place.folder(1 << 30).local(&file).await.unwrap();
        assert_eq!(fs::read(local.path()).unwrap(), whole);
    }
    // Where it cannot be had again, nothing is given out.
    fs::write(place.kept(&file), vec![0; 1000]).unwrap();
    place.lose(&file).await;
    let error = place.folder(1 << 30).read_verified(&file).await.unwrap_err();
    assert!(matches!(error, StorageError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_the_file_is_not_kept() {
    let place = Place::new();
    let file = place.file("graph.onnx", 3 << 20).await;
    place.store.put(&StorePath::from("graph.onnx"), vec![1; 3 << 20].into()).await.unwrap();
    let error = place.folder(1 << 30).read_verified(&file).await.unwrap_err();
    assert!(matches!(error, StorageError::Digest { .. }), "{error}");
    place.store.put(&StorePath::from("graph.onnx"), vec![1; 30].into()).await.unwrap();
    let error = place.folder(1 << 30).read_verified(&file).await.unwrap_err();
    assert!(matches!(error, StorageError::Size { found: 30, .. }), "{error}");
    assert!(!place.kept(&file).exists());
    assert_eq!(place.parts(), 0);
}

#[tokio::test]
async fn several_that_want_a_file_download_it_once() {
    let place = Place::new();
    let file = place.file("graph.onnx", 8 << 20).await;
    let reads = (0..8).map(|_| {
        let (folder, file) = (place.folder(1 << 30), file.clone());
        tokio::spawn(async move { folder.read_verified(&file).await.map(|bytes| bytes.len()) })
    });
    for read in reads.collect::<Vec<_>>() {
        assert_eq!(read.await.unwrap().unwrap(), 8 << 20);
    }
    assert_eq!(place.downloads(), 1);
}

#[tokio::test]
async fn the_least_recently_used_is_evicted_but_not_what_is_held() {
    let place = Place::new();
    let mut files = Vec::new();
    for name in ["a", "b", "c", "d"] {
        files.push(place.file(name, 1000).await);
    }
    let folder = place.folder(3000);
    for (file, hours) in files[..3].iter().zip([3, 2, 1]) {
        folder.read_verified(file).await.unwrap();
        let used = SystemTime::now() - Duration::from_hours(hours);
        File::open(place.kept(file)).unwrap().set_modified(used).unwrap();
    }
    // The oldest is used again, and the next one is held.
    folder.read_verified(&files[0]).await.unwrap();
    let held = folder.local(&files[1]).await.unwrap();
    let old = SystemTime::now() - Duration::from_hours(9);
    File::open(held.path()).unwrap().set_modified(old).unwrap();
    folder.read_verified(&files[3]).await.unwrap();
    let kept: Vec<bool> = files.iter().map(|file| place.kept(file).exists()).collect();
    assert_eq!(kept, [true, true, false, true]);
    drop(held);
    folder.read_verified(&files[2]).await.unwrap();
    let kept: Vec<bool> = files.iter().map(|file| place.kept(file).exists()).collect();
    assert_eq!(kept, [true, false, true, true]);
}

#[tokio::test]
async fn what_is_too_large_is_read_and_not_kept() {
    let place = Place::new();
    let (small, large) = (place.file("small", 500).await, place.file("large", 1001).await);
    let folder = place.folder(1000);
    folder.read_verified(&small).await.unwrap();
    assert_eq!(folder.read_verified(&large).await.unwrap().len(), 1001);
    assert!(place.kept(&small).exists() && !place.kept(&large).exists());
    let error = folder.local(&large).await.unwrap_err();
    assert!(error.to_string().contains("1001 bytes are more than the 1000"), "{error}");
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_to_is_read() {
    let place = Place::new();
    let (kept, other) = (place.file("kept", 1000).await, place.file("other", 1000).await);
    place.folder(1 << 30).read_verified(&kept).await.unwrap();
    // For a user who may do everything, permissions refuse nothing.
    fs::remove_dir_all(place.cache().join("incoming")).unwrap();
    fs::write(place.cache().join("incoming"), b"not a folder").unwrap();
    let folder = place.folder(1 << 30);
    assert_eq!(folder.read_verified(&other).await.unwrap().len(), 1000);
    assert!(!place.kept(&other).exists());
    let before = place.downloads();
    folder.read_verified(&kept).await.unwrap();
    folder.local(&kept).await.unwrap();
    assert_eq!(place.downloads(), before);
    let error = folder.local(&other).await.unwrap_err();
    assert!(matches!(error, StorageError::NoCache { .. }), "{error}");
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed() {
    let place = Place::new();
    let file = place.file("a", 1000).await;
    let left = place.cache().join("incoming").join(format!("{PART}left"));
    let fresh = place.cache().join("incoming").join(format!("{PART}fresh"));
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&fresh, b"of a download that runs").unwrap();
    fs::write(&left, b"half a file").unwrap();
    File::open(&left).unwrap().set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
    place.folder(1 << 30).read_verified(&file).await.unwrap();
    assert!(!left.exists() && fresh.exists());
    let incoming = fs::read_dir(place.cache().join("incoming")).unwrap();
    let names: Vec<_> = incoming.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [format!("{PART}fresh").as_str()], "a download leaves nothing");
}
