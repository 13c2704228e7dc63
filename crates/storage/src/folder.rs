//! A folder on this machine or in object storage. Paths never leave it, links are not followed, and files are not overwritten, but
//! where [`Folder::replace`] says so.

mod listing;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, WriteMultipart,
};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::explain::{explain, is_conflict_in_flight};
use crate::location::{Kind, Location};
use crate::source::{self, Source};
use crate::{FileDigest, Storage, StorageError, Transfer};

pub use listing::Listed;

/// A server that is asked for two writes of one name at a time may refuse both; the one that tries again wins or loses for good.
const CREATE_ATTEMPTS: usize = 5;

/// A folder; cheap to clone. It need not exist: writing makes it.
#[derive(Debug, Clone)]
pub struct Folder {
    store: Arc<dyn ObjectStore>,
    base: Base,
    /// Path below `base`; empty for the base itself.
    below: String,
    location: String,
    storage: Storage,
}

#[derive(Debug, Clone)]
enum Base {
    /// Absolute; what lies above it is the operator's business and may contain links.
    Local(PathBuf),
    Remote {
        prefix: StorePath,
        kind: Kind,
    },
}

/// A file on this machine. While it is held, the cache does not evict it.
#[derive(Debug)]
pub struct LocalFile {
    pub(crate) path: PathBuf,
    /// Locked where it is in the cache.
    pub(crate) _held: Option<std::fs::File>,
}

impl LocalFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Folder {
    /// Opens a local path, absolute or relative to the working directory, or a URL: `file://`, `s3://`, `gs://`, `az://`,
    /// `https://`. Credentials are those of the environment; nothing is asked over the network yet. Files of object storage go
    /// through the cache of the process ([`Storage::of_the_process`]).
    pub fn open(location: &str) -> Result<Self, StorageError> {
        Self::open_with(location, Storage::of_the_process())
    }

    /// The same, with a cache of its own.
    pub fn open_with(location: &str, storage: Storage) -> Result<Self, StorageError> {
        let (store, base): (Arc<dyn ObjectStore>, _) = match Location::open(location)? {
            Location::Remote { store, prefix, kind } => (store, Base::Remote { prefix, kind }),
            Location::Local(path) => {
                // A folder that is still to be written cannot be made canonical.
                let root = path.canonicalize().unwrap_or(path);
                if root.components().any(|part| part == std::path::Component::ParentDir) {
                    let why = "there is no such folder, and a new one is named without ..".to_owned();
                    return Err(StorageError::Location { location: location.to_owned(), why });
                }
                // What is acknowledged must be on the disk.
                let store = LocalFileSystem::new().with_fsync(true).with_automatic_cleanup(true);
                (Arc::new(store), Base::Local(root))
            }
        };
        let location = location.trim_end_matches('/').to_owned();
        Ok(Self { store, base, below: String::new(), location, storage })
    }

    /// The root of an object store of the caller's.
    pub fn of_store(store: Arc<dyn ObjectStore>, location: &str, storage: Storage) -> Self {
        let base = Base::Remote { prefix: StorePath::default(), kind: Kind::Memory };
        Self { store, base, below: String::new(), location: location.to_owned(), storage }
    }

    /// The folder `relative` within this one.
    pub fn join(&self, relative: &str) -> Result<Self, StorageError> {
        check_relative(relative)?;
        Ok(Self {
            store: Arc::clone(&self.store),
            base: self.base.clone(),
            below: self.below_base(relative),
            location: self.describe(relative),
            storage: self.storage.clone(),
        })
    }

    /// Where it is, as it was opened; for people.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Where it is on this machine; `None` if it is in object storage.
    pub fn local_path(&self) -> Option<PathBuf> {
        match &self.base {
            Base::Local(root) if self.below.is_empty() => Some(root.clone()),
            Base::Local(root) => Some(root.join(&self.below)),
            Base::Remote { .. } => None,
        }
    }

    /// Reads a file of at most `max_bytes`, from where it is: it does not go through the cache.
    pub async fn read(&self, relative: &str, max_bytes: u64) -> Result<Bytes, StorageError> {
        let path = self.resolve(relative).await?;
        let found = self.store.get(&path).await.map_err(|error| self.explain(relative, error))?;
        let size_bytes = found.meta.size;
        if size_bytes > max_bytes {
            return Err(StorageError::TooLarge { file: self.describe(relative), size_bytes, max_bytes });
        }
        found.bytes().await.map_err(|error| self.explain(relative, error))
    }

    /// Copies a file of which nothing is recorded to `target` on this machine; only a part of it is in memory at a time.
    pub async fn copy_to(&self, relative: &str, target: &Path) -> Result<(), StorageError> {
        let (path, file, began) = (self.resolve(relative).await?, self.describe(relative), Instant::now());
        let local = |error| StorageError::access(target.display().to_string(), error);
        let found = self.store.get(&path).await.map_err(|error| self.explain(relative, error))?;
        let (total, mut parts) = (found.meta.size, found.into_stream());
        let (mut written, mut done) = (tokio::fs::File::create(target).await.map_err(local)?, 0);
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| {
                self.storage.watch.ended(&file);
                self.explain(relative, error)
            })?;
            written.write_all(&part).await.map_err(local)?;
            done += part.len() as u64;
            self.storage.watch.progress(Transfer { file: &file, done, total, elapsed: began.elapsed() });
        }
        self.storage.watch.ended(&file);
        written.flush().await.map_err(local)
    }

    /// Reads a file and gives it out only if its size and SHA-256 are the recorded ones. One of object storage is kept in the
    /// cache, or taken from there.
    pub async fn read_verified(&self, file: &FileDigest) -> Result<Bytes, StorageError> {
        let source = self.source(file).await?;
        match (&self.base, &self.storage.cache) {
            (Base::Remote { .. }, Some(cache)) => cache.read(&source).await,
            _ => source.read().await,
        }
    }

    /// A file on this machine, for what reads files by itself. One of object storage is verified, and kept in the cache. Of a
    /// local one, only that nothing on the way to it is a link.
    pub async fn local(&self, file: &FileDigest) -> Result<LocalFile, StorageError> {
        let source = self.source(file).await?;
        match (self.local_path(), &self.storage.cache) {
            (Some(folder), _) => Ok(LocalFile { path: folder.join(&file.path), _held: None }),
            (None, Some(cache)) => cache.file(&source).await,
            (None, None) => {
                Err(StorageError::NoCache { file: source.name, why: "it is turned off".to_owned() })
            }
        }
    }

    /// The size of a file; `None` if there is none.
    pub async fn size(&self, relative: &str) -> Result<Option<u64>, StorageError> {
        let path = self.resolve(relative).await?;
        match self.store.head(&path).await {
            Ok(found) => Ok(Some(found.size)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.explain(relative, error)),
        }
    }

    /// Whether it can be listed and written to, as far as its kind tells: a web server can only be read.
    pub fn is_only_read(&self) -> bool {
        matches!(self.base, Base::Remote { kind: Kind::Http, .. })
    }

    /// Writes a file that must not exist yet. It appears whole or not at all, and of several writers at a time, one wins: the
    /// others get [`StorageError::AlreadyExists`], and so may the winner, if the answer to its first attempt was lost. Whoever must
    /// know reads the file.
    pub async fn create(&self, relative: &str, bytes: Bytes) -> Result<(), StorageError> {
        let path = self.resolve(relative).await?;
        let mut attempts = 1;
        loop {
            let options = PutOptions::from(PutMode::Create);
            match self.store.put_opts(&path, bytes.clone().into(), options).await {
                Ok(_) => return Ok(()),
                Err(error) if is_conflict_in_flight(&error) && attempts < CREATE_ATTEMPTS => attempts += 1,
                Err(error) => return Err(self.explain(relative, error)),
            }
        }
    }

    /// Writes a file, in the place of one that is there: whoever reads it meanwhile gets the one or the other.
    pub async fn replace(&self, relative: &str, bytes: Bytes) -> Result<(), StorageError> {
        let path = self.resolve(relative).await?;
        self.store.put(&path, bytes.into()).await.map(drop).map_err(|error| self.explain(relative, error))
    }

    /// Writes a file that must not exist yet, from parts that come one after another: no more than a few of them are in memory at
    /// a time. It appears whole or not at all. Returns its size and SHA-256.
    pub async fn create_from<E: From<StorageError>>(
        &self,
        relative: &str,
        parts: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<FileDigest, E> {
        let path = self.resolve(relative).await?;
        let failed = |error| self.explain(relative, error);
        if self.size(relative).await?.is_some() {
            return Err(StorageError::AlreadyExists { file: self.describe(relative) }.into());
        }
        let upload = self.store.put_multipart(&path).await.map_err(failed)?;
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
            hash = source::hashed(hash, part.clone())
                .await
                .map_err(|error| StorageError::access(self.describe(relative), error))?;
            upload.wait_for_capacity(1).await.map_err(failed)?;
            upload.put(part);
        }
        upload.finish().await.map_err(failed)?;
        Ok(FileDigest { path: relative.to_owned(), sha256: hex::encode(hash.finalize()), size_bytes })
    }

    /// Where the bytes of a file come from.
    pub(crate) async fn source<'f>(&'f self, file: &'f FileDigest) -> Result<Source<'f>, StorageError> {
        Ok(Source {
            store: &*self.store,
            path: self.resolve(&file.path).await?,
            kind: self.kind(),
            file,
            name: self.describe(&file.path),
            watch: &*self.storage.watch,
        })
    }

    /// Writes a large file in parts of `part_bytes`, which must not exist yet as far as can be seen: nobody else is kept from
    /// writing it meanwhile. It appears whole or not at all, and only if `source` is what it should be.
    pub(crate) async fn create_large(
        &self,
        relative: &str,
        source: &Source<'_>,
        part_bytes: usize,
    ) -> Result<(), StorageError> {
        let failed = |error| self.explain(relative, error);
        let path = self.resolve(relative).await?;
        let upload = self.store.put_multipart(&path).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part_bytes);
        let written = async {
            let mut reading = source.open().await?;
            let (file, began, mut done) = (self.describe(relative), Instant::now(), 0);
            while let Some(batch) = reading.next().await? {
                upload.wait_for_capacity(source::PARTS_AT_A_TIME).await.map_err(failed)?;
                done += batch.len() as u64;
                upload.put(batch);
                let (total, elapsed) = (source.file.size_bytes, began.elapsed());
                self.storage.watch.progress(Transfer { file: &file, done, total, elapsed });
            }
            Ok(())
        };
        let written = written.await;
        self.storage.watch.ended(&self.describe(relative));
        if let Err(why) = written {
            let _ = upload.abort().await;
            return Err(why);
        }
        upload.finish().await.map_err(failed)?;
        Ok(())
    }

    fn kind(&self) -> Option<Kind> {
        match self.base {
            Base::Local(_) => None,
            Base::Remote { kind, .. } => Some(kind),
        }
    }

    fn explain(&self, relative: &str, error: StoreError) -> StorageError {
        explain(self.kind(), self.describe(relative), error)
    }

    /// The store's path of a file; of a local one after looking that no part of it below the root is a link.
    async fn resolve(&self, relative: &str) -> Result<StorePath, StorageError> {
        check_relative(relative)?;
        let below = self.below_base(relative);
        let root = match &self.base {
            Base::Remote { prefix, .. } => {
                return Ok(below.split('/').fold(prefix.clone(), StorePath::join));
            }
            Base::Local(root) => root,
        };
        let mut path = root.clone();
        for part in below.split('/') {
            path.push(part);
            if tokio::fs::symlink_metadata(&path).await.is_ok_and(|found| found.is_symlink()) {
                return Err(StorageError::SymbolicLink { file: path.display().to_string() });
            }
        }
        StorePath::from_absolute_path(&path)
            .map_err(|error| StorageError::access(path.display().to_string(), error))
    }

    fn below_base(&self, relative: &str) -> String {
        if self.below.is_empty() { relative.to_owned() } else { format!("{}/{relative}", self.below) }
    }

    /// A file's name for people.
    pub fn describe(&self, relative: &str) -> String {
        format!("{}/{relative}", self.location)
    }
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
mod tests;
