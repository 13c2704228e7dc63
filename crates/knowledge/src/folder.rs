//! A folder in object storage. Paths never leave it, links are not followed, and files are never overwritten.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, WriteMultipart,
};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{FileDigest, StorageError, sha256_hex};

/// A folder; cheap to clone. It need not exist: writing makes it.
#[derive(Debug, Clone)]
pub struct Folder {
    store: Arc<dyn ObjectStore>,
    /// Absolute; what lies above it is the operator's business and may contain links.
    root: PathBuf,
    /// Path below `root`; empty for the root itself.
    below: String,
    location: String,
}

/// The absolute path of a folder that is named by a local path, absolute or relative to the working directory, or a `file://` URL.
pub fn local_path(location: &str) -> Result<PathBuf, StorageError> {
    let wrong = |why: String| StorageError::Location { location: location.to_owned(), why };
    match location.split_once("://") {
        Some(("file", _)) => Url::parse(location)
            .map_err(|error| wrong(error.to_string()))?
            .to_file_path()
            .map_err(|()| wrong("a file URL is written file:///absolute/path".to_owned())),
        Some((scheme, _)) => {
            Err(StorageError::Scheme { location: location.to_owned(), scheme: scheme.to_owned() })
        }
        None => std::path::absolute(location).map_err(|error| wrong(error.to_string())),
    }
}

impl Folder {
    /// Opens a local path, absolute or relative to the working directory, or a `file://` URL.
    pub fn open(location: &str) -> Result<Self, StorageError> {
        let path = local_path(location)?;
        // A folder that is still to be written cannot be made canonical.
        let root = path.canonicalize().unwrap_or(path);
        if root.components().any(|part| part == std::path::Component::ParentDir) {
            let why = "there is no such folder, and a new one is named without ..".to_owned();
            return Err(StorageError::Location { location: location.to_owned(), why });
        }
        Ok(Self {
            store: Arc::new(LocalFileSystem::new()),
            root,
            below: String::new(),
            location: location.trim_end_matches('/').to_owned(),
        })
    }

    /// The folder `relative` within this one.
    pub fn join(&self, relative: &str) -> Result<Self, StorageError> {
        check_relative(relative)?;
        Ok(Self {
            store: Arc::clone(&self.store),
            root: self.root.clone(),
            below: self.below_root(relative),
            location: self.describe(relative),
        })
    }

    /// Where it is, as it was opened; for people.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Where it is on this machine.
    pub fn local_path(&self) -> PathBuf {
        if self.below.is_empty() { self.root.clone() } else { self.root.join(&self.below) }
    }

    /// Reads a file of at most `max_bytes`.
    pub async fn read(&self, relative: &str, max_bytes: u64) -> Result<Bytes, StorageError> {
        let found = self.get(relative).await?;
        let size_bytes = found.meta.size;
        if size_bytes > max_bytes {
            return Err(StorageError::TooLarge { file: self.describe(relative), size_bytes, max_bytes });
        }
        found.bytes().await.map_err(|error| StorageError::access(self.describe(relative), error))
    }

    /// Reads a file and gives it out only if its size and SHA-256 are the recorded ones.
    pub async fn read_verified(&self, file: &FileDigest) -> Result<Bytes, StorageError> {
        let name = self.describe(&file.path);
        let found = self.get(&file.path).await?;
        let size = |found: u64| StorageError::Size { file: name.clone(), expected: file.size_bytes, found };
        // Before a byte is read: a wrong file may be of any size.
        if found.meta.size != file.size_bytes {
            return Err(size(found.meta.size));
        }
        let bytes = found.bytes().await.map_err(|error| StorageError::access(name.clone(), error))?;
        if bytes.len() as u64 != file.size_bytes {
            return Err(size(bytes.len() as u64));
        }
        let hashed = bytes.clone();
        let digest = tokio::task::spawn_blocking(move || sha256_hex(&hashed))
            .await
            .map_err(|error| StorageError::access(name.clone(), error))?;
        if digest != file.sha256 {
            return Err(StorageError::Digest { file: name, expected: file.sha256.clone(), found: digest });
        }
        Ok(bytes)
    }

    /// Where a file is on this machine, for what reads files by itself; after looking that nothing on the way is a link.
    pub async fn local(&self, relative: &str) -> Result<PathBuf, StorageError> {
        self.resolve(relative).await?;
        Ok(self.root.join(self.below_root(relative)))
    }

    /// Writes a file that must not exist yet. It appears whole or not at all.
    pub async fn create(&self, relative: &str, bytes: Bytes) -> Result<(), StorageError> {
        let path = self.resolve(relative).await?;
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&path, bytes.into(), options).await {
            Ok(_) => Ok(()),
            Err(StoreError::AlreadyExists { .. }) => {
                Err(StorageError::AlreadyExists { file: self.describe(relative) })
            }
            Err(error) => Err(StorageError::access(self.describe(relative), error)),
        }
    }

    /// Writes a file that must not exist yet, from parts that come one after another: no more than a few of them are in memory at
    /// a time. It appears whole or not at all. Returns its size and SHA-256.
    pub async fn create_from<E: From<StorageError>>(
        &self,
        relative: &str,
        parts: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<FileDigest, E> {
        let path = self.resolve(relative).await?;
        let access = |error| StorageError::access(self.describe(relative), error);
        match self.store.head(&path).await {
            Err(StoreError::NotFound { .. }) => {}
            Ok(_) => return Err(StorageError::AlreadyExists { file: self.describe(relative) }.into()),
            Err(error) => return Err(access(error).into()),
        }
        let upload = self.store.put_multipart(&path).await.map_err(access)?;
        let (mut upload, mut hash, mut size_bytes) = (WriteMultipart::new(upload), Sha256::new(), 0);
        let mut parts = pin!(parts);
        while let Some(part) = parts.next().await {
            let part = match part {
                Ok(part) => part,
                Err(why) => {
                    // What was written so far is not the file; why comes first.
                    let _ = upload.abort().await;
                    return Err(why);
                }
            };
            size_bytes += part.len() as u64;
            let hashed = part.clone();
            let task = tokio::task::spawn_blocking(move || {
                hash.update(&hashed);
                hash
            });
            hash = task.await.map_err(|error| StorageError::access(self.describe(relative), error))?;
            upload.wait_for_capacity(1).await.map_err(access)?;
            upload.put(part);
        }
        upload.finish().await.map_err(access)?;
        Ok(FileDigest { path: relative.to_owned(), sha256: hex::encode(hash.finalize()), size_bytes })
    }

    async fn get(&self, relative: &str) -> Result<object_store::GetResult, StorageError> {
        let path = self.resolve(relative).await?;
        self.store.get(&path).await.map_err(|error| match error {
            StoreError::NotFound { .. } => StorageError::NotFound { file: self.describe(relative) },
            error => StorageError::access(self.describe(relative), error),
        })
    }

    /// The store's path of a file, after looking that no part of it below the root is a link.
    async fn resolve(&self, relative: &str) -> Result<StorePath, StorageError> {
        check_relative(relative)?;
        let mut path = self.root.clone();
        for part in self.below_root(relative).split('/') {
            path.push(part);
            if tokio::fs::symlink_metadata(&path).await.is_ok_and(|found| found.is_symlink()) {
                return Err(StorageError::SymbolicLink { file: path.display().to_string() });
            }
        }
        StorePath::from_absolute_path(&path).map_err(|error| StorageError::access(describe(&path), error))
    }

    fn below_root(&self, relative: &str) -> String {
        if self.below.is_empty() { relative.to_owned() } else { format!("{}/{relative}", self.below) }
    }

    /// A file's name for people.
    pub(crate) fn describe(&self, relative: &str) -> String {
        format!("{}/{relative}", self.location)
    }
}

fn describe(path: &Path) -> String {
    path.display().to_string()
}

/// Takes only paths that stay within their folder on every system.
fn check_relative(path: &str) -> Result<(), StorageError> {
    let refuse = |why| Err(StorageError::Path { path: path.to_owned(), why });
    if path.starts_with('/') {
        return refuse("it is absolute");
    }
    if path.contains('\\') || path.contains(':') {
        return refuse("it contains a backslash or a colon");
    }
    if path.chars().any(char::is_control) {
        return refuse("it contains a control character");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("it has an empty part, or one that is . or ..");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let broken =
            [Ok(Bytes::from_static(b"a part")), Err(StorageError::NotFound { file: "b".to_owned() })];
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
        assert!(
            told.contains("graph.onnx") && told.contains(&file.sha256) && told.contains("again"),
            "{told}"
        );

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
        for path in
            ["/etc/passwd", "../x", "a/../../x", "a//b", "", "a/", "./a", "a\\b", "C:x", "a\nb", "a\0"]
        {
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
        let error = Folder::open("s3://bucket/key").unwrap_err().to_string();
        assert!(error.contains("s3") && error.contains("file://"), "{error}");
        assert!(Folder::open("file://host/x").is_err());
    }

    #[test]
    fn relative_locations_start_at_the_working_directory() {
        let folder = Folder::open("src").unwrap();
        assert_eq!(folder.location(), "src");
        assert!(folder.root.is_absolute());
    }
}
