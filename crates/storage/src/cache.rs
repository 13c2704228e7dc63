//! Files of object storage on this machine, by their digest.
//!
//! ```text
//! sha256/ab/abcdef…      a file, verified when it was written and again each time it is read
//! incoming/part-…        what is being downloaded; renamed when it is whole and verified
//! incoming/abcdef….lock  held by the process that downloads this file, so that others wait instead of downloading it, too
//! ```
//!
//! Processes share a cache. What does not fit is evicted, least recently used first, except what a process holds as a
//! [`LocalFile`]. A cache that cannot be written to is used for what is in it.

mod room;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::source::Source;
use crate::{FileDigest, LocalFile, StorageError, Verifying, sha256_hex};

/// What is being downloaded begins so.
const PART: &str = "part-";
/// How the file ends that keeps others from the same download.
const LOCK: &str = ".lock";
/// How often a process looks whether another one has done with its download.
const POLL: Duration = Duration::from_millis(50);

/// A folder of files by their digest, of bounded size.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    max_bytes: u64,
}

/// What became of the attempt to keep a file.
enum Fetched {
    Kept,
    /// It cannot be kept, for a reason of the cache's.
    CannotKeep(String),
}

/// Why a download into the cache ended.
enum Failed {
    /// The file cannot be had.
    Source(StorageError),
    /// The cache cannot take it.
    Cache(io::Error),
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self::Source(error)
    }
}

impl Cache {
    /// The cache in `folder`, which is made when something is kept. The files in it take no more than `max_bytes`.
    pub fn new(folder: impl Into<PathBuf>, max_bytes: u64) -> Self {
        Self { folder: folder.into(), max_bytes }
    }

    /// Where a file is, if it is there.
    pub fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join("sha256").join(sha256.get(..2).unwrap_or("")).join(sha256)
    }

    /// Reads a file, which is downloaded and kept if it is not there.
    pub(crate) async fn read(&self, source: &Source<'_>) -> Result<Bytes, StorageError> {
        let kept = || self.on_a_thread(source, read_kept);
        if let Some(bytes) = kept().await? {
            return Ok(bytes);
        }
        match self.fetch(source).await? {
            Fetched::Kept => {
                if let Some(bytes) = kept().await? {
                    return Ok(bytes);
                }
            }
            Fetched::CannotKeep(why) => {
                tracing::info!(file = source.name, why, "read without being kept in the cache");
            }
        }
        source.read().await
    }

    /// A file as a file on this machine.
    pub(crate) async fn file(&self, source: &Source<'_>) -> Result<LocalFile, StorageError> {
        let kept = || self.on_a_thread(source, hold_kept);
        if let Some(file) = kept().await? {
            return Ok(file);
        }
        let no_cache = |why: String| StorageError::NoCache { file: source.name.clone(), why };
        match self.fetch(source).await? {
            Fetched::Kept => kept().await?.ok_or_else(|| no_cache("it did not stay there".to_owned())),
            Fetched::CannotKeep(why) => Err(no_cache(why)),
        }
    }

    /// Gives what `look` finds of a file that is kept. One that is damaged is dropped.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        source: &Source<'_>,
        look: fn(&Path, &FileDigest) -> Result<T, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        let (path, file) = (self.path(&source.file.sha256), source.file.clone());
        let look = move || match look(&path, &file) {
            Ok(found) => Some(found),
            Err(StorageError::NotFound { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, "a file of the cache cannot be used and is dropped");
                if let Err(error) = fs::remove_file(&path) {
                    tracing::debug!(path = %path.display(), %error, "not removed");
                }
                None
            }
        };
        let access = |error| StorageError::access(source.name.clone(), error);
        tokio::task::spawn_blocking(look).await.map_err(access)
    }

    /// Downloads a file into the cache, unless another process just has.
    async fn fetch(&self, source: &Source<'_>) -> Result<Fetched, StorageError> {
        let size_bytes = source.file.size_bytes;
        if size_bytes > self.max_bytes {
            return Ok(Fetched::CannotKeep(format!(
                "{size_bytes} bytes are more than the {} it may take",
                self.max_bytes
            )));
        }
        let cannot = |error: &io::Error| {
            Ok(Fetched::CannotKeep(format!("{} cannot be written to: {error}", self.folder.display())))
        };
        let _lock = match self.lock(source).await {
            Ok(lock) => lock,
            Err(error) => return cannot(&error),
        };
        let target = self.path(&source.file.sha256);
        if fs::metadata(&target).is_ok_and(|found| found.len() == size_bytes) {
            return Ok(Fetched::Kept);
        }
        match self.download(source, &target).await {
            Ok(()) => Ok(Fetched::Kept),
            Err(Failed::Source(error)) => Err(error),
            Err(Failed::Cache(error)) => cannot(&error),
        }
    }

    async fn download(&self, source: &Source<'_>, target: &Path) -> Result<(), Failed> {
        self.make_room(source.file.size_bytes).map_err(Failed::Cache)?;
        let part =
            tempfile::Builder::new().prefix(PART).tempfile_in(self.incoming()).map_err(Failed::Cache)?;
        // Dropped, which removes it, unless all goes well.
        let mut part = readable_by_all(part).map_err(Failed::Cache)?;
        let mut reading = source.open().await?;
        while let Some(batch) = reading.next().await? {
            let write = move || part.write_all(&batch).map(|()| part);
            let written = tokio::task::spawn_blocking(write).await;
            part = written.map_err(io::Error::other).and_then(|written| written).map_err(Failed::Cache)?;
        }
        target.parent().map_or(Ok(()), fs::create_dir_all).map_err(Failed::Cache)?;
        part.persist(target).map_err(|error| Failed::Cache(error.error))?;
        Ok(())
    }

    /// Waits until no other download of the file is under way. Where files cannot be locked, there may be several, and the last
    /// one to end wins, which does no harm.
    async fn lock(&self, source: &Source<'_>) -> io::Result<Option<Lock>> {
        fs::create_dir_all(self.incoming())?;
        let path = self.incoming().join(format!("{}{LOCK}", source.file.sha256));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Some(Lock { path, _held: lock })),
                Err(TryLockError::Error(error)) => {
                    tracing::debug!(%error, "the cache cannot be locked");
                    return Ok(None);
                }
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!(file = source.name, "another process downloads it; waiting");
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }
}

/// A download's own. Its file goes with it: whoever waits for that looks first whether the download is there.
struct Lock {
    path: PathBuf,
    _held: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn read_kept(path: &Path, file: &FileDigest) -> Result<Bytes, StorageError> {
    let (mut opened, name) = open_kept(path, file)?;
    let mut bytes = Vec::with_capacity(file.size_bytes as usize);
    opened.read_to_end(&mut bytes).map_err(|error| StorageError::access(name.clone(), error))?;
    let found = sha256_hex(&bytes);
    if found != file.sha256 {
        return Err(StorageError::Digest { file: name, expected: file.sha256.clone(), found });
    }
    touch(&opened);
    Ok(bytes.into())
}

fn hold_kept(path: &Path, file: &FileDigest) -> Result<LocalFile, StorageError> {
    let (opened, name) = open_kept(path, file)?;
    // Where files cannot be locked, it may be evicted; what is open stays readable.
    let held = opened.try_lock_shared().is_ok();
    let access = |error| StorageError::access(name.clone(), error);
    let mut reader = Verifying::new(&opened);
    io::copy(&mut reader, &mut io::sink()).map_err(access)?;
    reader.check(file, &name)?;
    // It may have been evicted before it was locked.
    if !path.exists() {
        return Err(StorageError::NotFound { file: name });
    }
    touch(&opened);
    Ok(LocalFile { path: path.to_owned(), _held: held.then_some(opened) })
}

fn open_kept(path: &Path, file: &FileDigest) -> Result<(File, String), StorageError> {
    let name = path.display().to_string();
    let opened = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StorageError::NotFound { file: name.clone() },
        _ => StorageError::access(name.clone(), error),
    })?;
    let found = opened.metadata().map_err(|error| StorageError::access(name.clone(), error))?.len();
    if found != file.size_bytes {
        return Err(StorageError::Size { file: name, expected: file.size_bytes, found });
    }
    Ok((opened, name))
}

/// Says that a file was used just now. Not allowed in a cache that is only read, where nothing is evicted either.
fn touch(file: &File) {
    let _ = file.set_modified(SystemTime::now());
}

/// Other users of this machine may share the cache.
fn readable_by_all(part: NamedTempFile) -> io::Result<NamedTempFile> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        part.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    Ok(part)
}

#[cfg(test)]
mod tests;
