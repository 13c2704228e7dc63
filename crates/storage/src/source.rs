//! The bytes of one file as they come, measured against what they must be.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinError;

use crate::explain::explain;
use crate::location::Kind;
use crate::{FileDigest, StorageError, Transfer, Watch};

/// Bytes that are hashed and written at a time: chunks of the network are too small to send to another thread.
const BATCH: usize = 1 << 20;
/// Parts of an upload that are under way at a time.
pub(crate) const PARTS_AT_A_TIME: usize = 4;

/// A file in a store.
pub(crate) struct Source<'f> {
    pub(crate) store: &'f dyn ObjectStore,
    pub(crate) path: StorePath,
    /// `None` on this machine.
    pub(crate) kind: Option<Kind>,
    /// What it must be.
    pub(crate) file: &'f FileDigest,
    /// Its name for people.
    pub(crate) name: String,
    pub(crate) watch: &'f dyn Watch,
}

impl Source<'_> {
    /// Reads it into memory.
    pub(crate) async fn read(&self) -> Result<Bytes, StorageError> {
        if self.kind.is_none() {
            return self.read_at_once().await;
        }
        let mut reading = self.open().await?;
        let mut bytes = BytesMut::with_capacity(self.file.size_bytes as usize);
        while let Some(batch) = reading.next().await? {
            bytes.extend_from_slice(&batch);
        }
        Ok(bytes.freeze())
    }

    /// A file of this machine needs no batches.
    async fn read_at_once(&self) -> Result<Bytes, StorageError> {
        let failed = |error| explain(self.kind, self.name.clone(), error);
        let found = self.store.get(&self.path).await.map_err(failed)?;
        // Before a byte is read: a wrong file may be of any size.
        if found.meta.size != self.file.size_bytes {
            return Err(self.wrong_size(found.meta.size));
        }
        let bytes = found.bytes().await.map_err(failed)?;
        if bytes.len() as u64 != self.file.size_bytes {
            return Err(self.wrong_size(bytes.len() as u64));
        }
        let hash = hashed(Sha256::new(), bytes.clone()).await;
        self.check(hash.map_err(|error| StorageError::access(self.name.clone(), error))?)?;
        Ok(bytes)
    }

    fn wrong_size(&self, found: u64) -> StorageError {
        StorageError::Size { file: self.name.clone(), expected: self.file.size_bytes, found }
    }

    fn check(&self, hash: Sha256) -> Result<(), StorageError> {
        let found = hex::encode(hash.finalize());
        if found != self.file.sha256 {
            let (file, expected) = (self.name.clone(), self.file.sha256.clone());
            return Err(StorageError::Digest { file, expected, found });
        }
        Ok(())
    }

    /// Begins to read it.
    pub(crate) async fn open(&self) -> Result<Reading<'_>, StorageError> {
        let found = self.store.get(&self.path).await;
        let found = found.map_err(|error| explain(self.kind, self.name.clone(), error))?;
        // Before a byte is read: a wrong file may be of any size.
        if found.meta.size != self.file.size_bytes {
            return Err(self.wrong_size(found.meta.size));
        }
        Ok(Reading {
            source: self,
            chunks: found.into_stream(),
            hash: Some(Sha256::new()),
            done: 0,
            batch: BytesMut::new(),
            began: Instant::now(),
        })
    }
}

/// A file that is being read. Dropping it says that the download is over.
pub(crate) struct Reading<'s> {
    source: &'s Source<'s>,
    chunks: BoxStream<'static, object_store::Result<Bytes>>,
    /// Of the bytes so far; taken when all are there.
    hash: Option<Sha256>,
    done: u64,
    batch: BytesMut,
    began: Instant,
}

impl Reading<'_> {
    /// The next bytes; `None` when all of them were given and are those that they must be. What was given before an error may be
    /// anything.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        let source = self.source;
        while self.batch.len() < BATCH {
            let chunk = self.chunks.next().await.transpose();
            let Some(chunk) = chunk.map_err(|error| explain(source.kind, source.name.clone(), error))? else {
                break;
            };
            self.batch.extend_from_slice(&chunk);
        }
        let Some(hash) = self.hash.take() else { return Ok(None) };
        let batch = self.batch.split().freeze();
        if batch.is_empty() {
            if self.done != source.file.size_bytes {
                return Err(source.wrong_size(self.done));
            }
            return source.check(hash).map(|()| None);
        }
        self.done += batch.len() as u64;
        let hash = hashed(hash, batch.clone()).await;
        self.hash = Some(hash.map_err(|error| StorageError::access(source.name.clone(), error))?);
        if source.kind.is_some() {
            source.watch.progress(Transfer {
                file: &source.name,
                done: self.done,
                total: source.file.size_bytes,
                elapsed: self.began.elapsed(),
            });
        }
        Ok(Some(batch))
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.source.kind.is_some() {
            self.source.watch.ended(&self.source.name);
        }
    }
}

/// Hashes on a thread that may be busy.
pub(crate) async fn hashed(mut hash: Sha256, bytes: Bytes) -> Result<Sha256, JoinError> {
    tokio::task::spawn_blocking(move || {
        hash.update(&bytes);
        hash
    })
    .await
}
