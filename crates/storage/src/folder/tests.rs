//! What holds for folders on this machine, and for every kind of folder.

use std::time::SystemTime;

use object_store::memory::InMemory;
use url::Url;

use super::*;

fn folder() -> (tempfile::TempDir, Folder) {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::open(directory.path().to_str().unwrap()).unwrap();
    (directory, folder)
}

#[tokio::test]
async fn what_is_written_is_read_and_never_overwritten() {
    let (_directory, folder) = folder();
    let file = FileDigest::of("deep/in/a file.bin", b"bytes");
    folder.create(&file.path, Bytes::from_static(b"bytes")).await.unwrap();
    assert_eq!(folder.read_verified(&file).await.unwrap(), "bytes");
    assert_eq!(folder.join("deep/in").unwrap().read("a file.bin", 5).await.unwrap(), "bytes");
    let again = folder.create(&file.path, Bytes::from_static(b"other")).await;
    assert!(matches!(again, Err(StorageError::AlreadyExists { .. })));
    assert_eq!(folder.read(&file.path, 5).await.unwrap(), "bytes");
}

#[tokio::test]
async fn folders_are_listed_and_removed_with_what_is_half_written() {
    let (directory, local) = folder();
    let memory = Folder::of_store(Arc::new(InMemory::new()), "memory:", Storage::of_the_process());
    for folder in [&local, &memory] {
        assert!(folder.folders("segments").await.unwrap().is_empty());
        for path in ["segments/a/file", "segments/b/deep/file", "segments/loose"] {
            folder.create(path, Bytes::from_static(b"bytes")).await.unwrap();
        }
        let mut names = folder.folders("segments").await.unwrap();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
        folder.remove_folder("segments/b").await.unwrap();
        folder.remove_folder("segments/b").await.unwrap();
        assert_eq!(folder.folders("segments").await.unwrap(), ["a"]);
        folder.replace("segments/a/file", Bytes::from_static(b"other")).await.unwrap();
        assert_eq!(folder.read("segments/a/file", 5).await.unwrap(), "other");
        assert!(matches!(folder.remove_folder("..").await, Err(StorageError::Path { .. })));
    }
    let file = |name: &str| directory.path().join("segments/a").join(name);
    for name in ["file#12", "file#", "file#1a", "b#2"] {
        std::fs::write(file(name), "half").unwrap();
    }
    let now = SystemTime::now();
    let hour = std::time::Duration::from_hours(1);
    std::fs::File::options().write(true).open(file("file#12")).unwrap().set_modified(now - 2 * hour).unwrap();
    local.remove_half_written("segments", now - hour).await.unwrap();
    local.remove_half_written("nothing", now - hour).await.unwrap();
    memory.remove_half_written("segments", now - hour).await.unwrap();
    let there = ["file", "file#12", "file#", "file#1a", "b#2"].map(|name| file(name).exists());
    assert_eq!(there, [true, false, true, true, true]);
    local.remove_folder("segments/a").await.unwrap();
    assert!(!file("b#2").exists());
}

#[tokio::test]
async fn parts_become_a_file_and_are_let_go_of() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    const PART: usize = 6 << 20;
    /// A part that counts itself while it lives.
    struct Counted(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let (directory, folder) = folder();
    let (alive, mut most) = (Arc::new(AtomicUsize::new(0)), 0);
    let parts = (0..12_u8).map(|number| {
        most = most.max(alive.fetch_add(1, Ordering::SeqCst) + 1);
        Ok::<_, StorageError>(Bytes::from_owner(Counted(vec![number; PART], Arc::clone(&alive))))
    });
    let file = folder.create_from("deep/pack", futures::stream::iter(parts)).await.unwrap();
    let whole: Vec<u8> = (0..12_u8).flat_map(|number| vec![number; PART]).collect();
    assert_eq!(file, FileDigest::of("deep/pack", &whole));
    assert_eq!(folder.read_verified(&file).await.unwrap(), whole);
    assert!(most <= 4, "{most} parts were in memory at a time");

    let again = futures::stream::iter([Ok::<_, StorageError>(Bytes::from_static(b"other"))]);
    let again = folder.create_from("deep/pack", again).await;
    assert!(matches!(again, Err(StorageError::AlreadyExists { .. })));
    // Nothing is left of a file that does not come to its end.
    let broken = [Ok(Bytes::from_static(b"a part")), Err(StorageError::NotFound { file: "b".to_owned() })];
    assert!(folder.create_from("deep/broken", futures::stream::iter(broken)).await.is_err());
    let names: Vec<_> = std::fs::read_dir(directory.path().join("deep")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_by_name() {
    let (directory, folder) = folder();
    let file = FileDigest::of("graph.onnx", b"bytes");
    std::fs::write(directory.path().join("graph.onnx"), b"bytez").unwrap();
    let error = folder.read_verified(&file).await.unwrap_err();
    assert!(matches!(error, StorageError::Digest { .. }));
    let told = error.to_string();
    assert!(told.contains("graph.onnx") && told.contains(&file.sha256) && told.contains("again"), "{told}");

    std::fs::write(directory.path().join("graph.onnx"), b"bytes and more").unwrap();
    assert!(matches!(
        folder.read_verified(&file).await,
        Err(StorageError::Size { expected: 5, found: 14, .. })
    ));
    assert!(matches!(folder.read("graph.onnx", 5).await, Err(StorageError::TooLarge { .. })));
    assert!(matches!(folder.read("none", 5).await, Err(StorageError::NotFound { .. })));
}

#[tokio::test]
async fn paths_stay_within_the_folder() {
    let (_directory, folder) = folder();
    for path in ["/etc/passwd", "../x", "a/../../x", "a//b", "", "a/", "./a", "a\\b", "C:x", "a\nb", "a\0"] {
        assert!(matches!(folder.read(path, 9).await, Err(StorageError::Path { .. })), "{path:?}");
        assert!(
            matches!(folder.create(path, Bytes::new()).await, Err(StorageError::Path { .. })),
            "{path:?}"
        );
        assert!(matches!(folder.join(path), Err(StorageError::Path { .. })), "{path:?}");
    }
    // Not decoded: this is a file of an odd name, which is not there.
    assert!(matches!(folder.read("%2e%2e/x", 9).await, Err(StorageError::NotFound { .. })));
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_refused_whether_file_or_folder() {
    use std::os::unix::fs::symlink;
    let (directory, folder) = folder();
    std::fs::create_dir(directory.path().join("real")).unwrap();
    std::fs::write(directory.path().join("real/file"), b"x").unwrap();
    symlink(directory.path().join("real/file"), directory.path().join("file")).unwrap();
    symlink(directory.path().join("real"), directory.path().join("linked")).unwrap();
    for path in ["file", "linked/file"] {
        assert!(matches!(folder.read(path, 9).await, Err(StorageError::SymbolicLink { .. })), "{path}");
    }
    let error = folder.create("linked/new", Bytes::new()).await;
    assert!(matches!(error, Err(StorageError::SymbolicLink { .. })));
    // The folder that an operator names may itself be a link.
    let linked = Folder::open(directory.path().join("linked").to_str().unwrap()).unwrap();
    assert_eq!(linked.read("file", 9).await.unwrap(), "x");
}

#[tokio::test]
async fn file_urls_are_local_paths_and_other_schemes_are_refused() {
    let (directory, folder) = folder();
    folder.create("a", Bytes::from_static(b"x")).await.unwrap();
    let url = Url::from_directory_path(directory.path()).unwrap();
    assert_eq!(Folder::open(url.as_str()).unwrap().read("a", 1).await.unwrap(), "x");
    let error = Folder::open("ftp://host/key").unwrap_err().to_string();
    assert!(error.contains("ftp") && error.contains("file://"), "{error}");
    assert!(Folder::open("file://host/x").is_err());
}

#[test]
fn relative_locations_start_at_the_working_directory() {
    let folder = Folder::open("src").unwrap();
    assert_eq!(folder.location(), "src");
    assert!(folder.local_path().unwrap().is_absolute());
}
