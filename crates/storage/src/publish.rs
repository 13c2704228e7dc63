//! Publishing: what manifests list is written to another folder, verified, and the manifest that makes it whole comes last.
//!
//! A name, once written, keeps its bytes. The first file that is written is a claim, which says what is being published: whoever
//! comes with something else is refused before it writes anything, and whoever comes with the same resumes.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::{FileDigest, Folder, StorageError, sha256_hex};

/// What is being published, or was: the digest of a [`Publication`].
const CLAIM: &str = "published.sha256";
const CLAIM_BYTES: u64 = 65;
/// Larger files are written in parts.
const WHOLE: u64 = 8 << 20;
/// At least as large as every kind of storage asks for, small enough for a slow line.
const PART_BYTES: u64 = 8 << 20;
/// Storage takes 10,000 parts of a file.
const MAX_PARTS: u64 = 9_000;
/// Files that are written at a time.
const FILES_AT_A_TIME: usize = 4;

/// What is to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// Files that the manifests list.
    pub files: Vec<FileDigest>,
    /// The manifests, in the order in which they are written; the last one makes it whole.
    pub manifests: Vec<Manifest>,
}

/// A manifest that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Where it is published, and what it is.
    pub file: FileDigest,
    /// Its path where it is now.
    pub from: String,
}

impl From<FileDigest> for Manifest {
    /// One that keeps its path.
    fn from(file: FileDigest) -> Self {
        Self { from: file.path.clone(), file }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Files that were written.
    pub written: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already.
    pub present: usize,
}

impl Publication {
    /// Adds what is in the folder `folder` of what is published.
    pub fn add(&mut self, folder: &str, other: Self) {
        let within = |file: FileDigest| FileDigest { path: format!("{folder}/{}", file.path), ..file };
        self.files.extend(other.files.into_iter().map(within));
        self.manifests.extend(other.manifests.into_iter().map(|Manifest { file, from }| Manifest {
            file: within(file),
            from: format!("{folder}/{from}"),
        }));
    }

    /// Lower-case hex SHA-256 of what it lists.
    pub fn digest(&self) -> String {
        let lines = self.files.iter().chain(self.manifests.iter().map(|manifest| &manifest.file));
        let lines = lines.map(|file| format!("{} {} {}\n", file.sha256, file.size_bytes, file.path));
        sha256_hex(lines.collect::<String>().as_bytes())
    }

    /// Writes it from one folder to another.
    ///
    /// # Errors
    /// A file that is not what its manifest says; something else at the target, which is left as it is.
    pub async fn publish(&self, from: &Folder, to: &Folder) -> Result<Published, StorageError> {
        let resumes = self.claim(to).await?;
        let write = |source, file| async move {
            let is_written = write(from, source, to, file, resumes).await?;
            Ok::<_, StorageError>(Published {
                written: is_written.into(),
                bytes: if is_written { file.size_bytes } else { 0 },
                present: (!is_written).into(),
            })
        };
        let done: Vec<_> = futures::stream::iter(&self.files)
            .map(|file| write(&file.path, file))
            .buffer_unordered(FILES_AT_A_TIME)
            .try_collect()
            .await?;
        let mut published = done.into_iter().fold(Published::default(), Published::and);
        for Manifest { file, from } in &self.manifests {
            published = published.and(write(from, file).await?);
        }
        Ok(published)
    }

    /// Claims the target for this. Says whether it was claimed for it before.
    async fn claim(&self, to: &Folder) -> Result<bool, StorageError> {
        let claim = format!("{}\n", self.digest());
        match to.create(CLAIM, claim.clone().into()).await {
            Ok(()) => Ok(false),
            Err(StorageError::AlreadyExists { file }) => {
                let found = to.read(CLAIM, CLAIM_BYTES).await;
                if found.is_ok_and(|found| found == claim) {
                    Ok(true)
                } else {
                    Err(StorageError::Differs { file })
                }
            }
            Err(error) => Err(error),
        }
    }
}

impl Published {
    fn and(self, other: Self) -> Self {
        Self {
            written: self.written + other.written,
            bytes: self.bytes + other.bytes,
            present: self.present + other.present,
        }
    }
}

/// Copies a file, which is at `source` in `from`, to the path in `file`, verified; one that is there already must be the same.
pub async fn copy(from: &Folder, source: &str, to: &Folder, file: &FileDigest) -> Result<(), StorageError> {
    write(from, source, to, file, false).await.map(drop)
}

/// Writes one file, which is at `source` now. Says whether it was not there. One that is there is believed to be the same if an earlier run of this
/// publication can have written it and its size is right, and is read otherwise.
async fn write(
    from: &Folder,
    source: &str,
    to: &Folder,
    file: &FileDigest,
    resumes: bool,
) -> Result<bool, StorageError> {
    let differs = || StorageError::Differs { file: to.describe(&file.path) };
    match to.size(&file.path).await? {
        None => {}
        Some(size) if size != file.size_bytes => return Err(differs()),
        Some(_) if resumes => return Ok(false),
        Some(_) => return is_same(to, file).await.map(|()| false),
    }
    let there = FileDigest { path: source.to_owned(), ..file.clone() };
    let source = from.source(&there).await?;
    if file.size_bytes > WHOLE {
        let part = PART_BYTES.max(file.size_bytes.div_ceil(MAX_PARTS));
        to.create_large(&file.path, &source, part as usize).await?;
        return Ok(true);
    }
    let bytes: Bytes = source.read().await?;
    match to.create(&file.path, bytes).await {
        Ok(()) => Ok(true),
        // Written meanwhile, by another one of these or by an attempt of which the answer was lost.
        Err(StorageError::AlreadyExists { .. }) => is_same(to, file).await.map(|()| false),
        Err(error) => Err(error),
    }
}

/// Refuses a file at the target that has another content.
async fn is_same(to: &Folder, file: &FileDigest) -> Result<(), StorageError> {
    let there = to.source(file).await?;
    let read = async {
        let mut reading = there.open().await?;
        while reading.next().await?.is_some() {}
        Ok(())
    };
    match read.await {
        Err(StorageError::Size { .. } | StorageError::Digest { .. }) => {
            Err(StorageError::Differs { file: to.describe(&file.path) })
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
