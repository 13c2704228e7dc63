//! A knowledge base that a service follows while others write to it: the epoch that is loaded, and those that were until a moment ago.
//!
//! An epoch is taken up as a whole or not at all. Whoever began with one keeps it to the end; one that is damaged is told and passed
//! over, and the one before keeps serving.

use std::collections::HashSet;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reverie_storage::{Folder, StorageError};

use crate::Epochs;
use crate::epoch::{Manifest, Segment};

/// How long an epoch is kept for requests that began with it elsewhere.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Epochs are found one after another; the whole list is read now and then, since some may have been removed.
const LIST_EVERY: Duration = Duration::from_mins(1);
/// With so many new ones, too.
const MANY: usize = 16;
/// How long an epoch that cannot be loaded is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a service reads of an epoch.
pub trait Read: Send + Sync + 'static {
    /// An epoch, loaded.
    type Epoch: Send + Sync + 'static;
    /// How many epochs are kept beside the current one, for requests that began with them elsewhere.
    const MOST_KEPT: usize;
    /// Why it cannot be loaded.
    type Error: Error + From<StorageError> + Send + Sync + 'static;

    /// Loads an epoch. `before` is the one that was loaded before, with which it may have segments in common.
    fn read(
        &self,
        folder: &Folder,
        manifest: Manifest,
        before: Option<&Self::Epoch>,
    ) -> impl Future<Output = Result<Self::Epoch, Self::Error>> + Send;

    /// The manifest of a loaded epoch.
    fn manifest(epoch: &Self::Epoch) -> &Manifest;

    /// An epoch that was read will be taken up: time for what must come before.
    fn prepare(&self, _epoch: &Self::Epoch) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// An epoch is served from now on.
    fn taken_up(&self, _epoch: &Self::Epoch) {}
}

/// A knowledge base that is followed.
#[derive(Debug)]
pub struct Live<R: Read> {
    epochs: Epochs,
    reader: R,
    loaded: RwLock<Loaded<R::Epoch>>,
    /// One refreshes at a time.
    turn: tokio::sync::Mutex<Turn>,
}

/// Takes up later epochs of knowledge bases as they come, and looks for them every `interval`, if there is one.
pub async fn follow<R: Read>(all: Vec<Arc<Live<R>>>, interval: Option<Duration>) -> Infallible {
    let following = interval.map(|interval| join_all(all.iter().map(move |live| live.follow(interval))));
    match following {
        // Of no knowledge base, at once.
        Some(following) if !all.is_empty() => {
            following.await;
        }
        _ => {}
    }
    std::future::pending().await
}

#[derive(Debug)]
struct Loaded<T> {
    current: Arc<T>,
    /// Those before it, the latest last, and until when each was the current one.
    older: Vec<(Arc<T>, Instant)>,
}

#[derive(Debug)]
struct Turn {
    listed: Instant,
    /// The latest epoch that could not be loaded.
    failed: Option<(Manifest, Instant)>,
}

impl<R: Read> Live<R> {
    /// Loads the latest epoch in `folder` that can be loaded. One that is damaged is told in the log.
    pub async fn open(folder: Folder, reader: R) -> Result<Self, R::Error> {
        let epochs = Epochs::new(folder);
        let mut why: Option<R::Error> = None;
        for manifest in epochs.newest_first().await? {
            let loaded = match manifest {
                Ok(manifest) => reader.read(epochs.folder(), manifest, None).await,
                Err(error) if !error.is_damage() => return Err(error.into()),
                Err(error) => Err(error.into()),
            };
            match loaded {
                Ok(epoch) => {
                    if let Some(error) = why {
                        let (epoch, location) = (R::manifest(&epoch).epoch, epochs.folder().location());
                        tracing::error!(%error, epoch, location, "a later epoch is damaged; this one is served");
                    }
                    reader.taken_up(&epoch);
                    let loaded = Loaded { current: Arc::new(epoch), older: Vec::new() };
                    let turn = Turn { listed: Instant::now(), failed: None };
                    return Ok(Self { epochs, reader, loaded: RwLock::new(loaded), turn: turn.into() });
                }
                // The latest says most.
                Err(error) => why = why.or(Some(error)),
            }
        }
        let nothing = || StorageError::NotFound { file: epochs.describe(1) }.into();
        Err(why.unwrap_or_else(nothing))
    }

    /// Where its epochs are.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// What reads it.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// The epoch that is served.
    pub fn current(&self) -> Arc<R::Epoch> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&loaded.current)
    }

    /// The latest epoch of those in memory of which `holds` is true.
    pub fn find(&self, holds: impl Fn(&R::Epoch) -> bool) -> Option<Arc<R::Epoch>> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let older = loaded.older.iter().rev().map(|(epoch, _)| epoch);
        std::iter::once(&loaded.current).chain(older).find(|epoch| holds(epoch)).map(Arc::clone)
    }

    /// Lets go of the epochs before the current one.
    pub fn drop_older(&self) {
        self.loaded.write().unwrap_or_else(PoisonError::into_inner).older.clear();
    }

    /// Takes up the latest epoch, if there is one that is not loaded. Returns the one that is served then.
    ///
    /// # Errors
    /// There is a later one that cannot be loaded, or nobody knows whether there is one.
    pub async fn refresh(&self) -> Result<Arc<R::Epoch>, R::Error> {
        let mut turn = self.turn.lock().await;
        let current = self.current();
        let before = R::manifest(&current);
        let mut why = None;
        for (number, manifest) in self.later(before.epoch, &mut turn).await? {
            let loaded = match manifest {
                Ok(manifest) => {
                    let is_it = |(failed, since): &(Manifest, Instant)| {
                        *failed == manifest && since.elapsed() < RETRY_AFTER
                    };
                    if turn.failed.as_ref().is_some_and(is_it) {
                        let file = self.epochs.describe(number);
                        let left_alone = "it could not be loaded a moment ago; the log says why";
                        Err(StorageError::content(file, left_alone).into())
                    } else {
                        let folder = self.epochs.folder();
                        let loaded = self.reader.read(folder, manifest.clone(), Some(&current)).await;
                        if loaded.is_err() {
                            turn.failed = Some((manifest, Instant::now()));
                        }
                        loaded
                    }
                }
                Err(error) => Err(error.into()),
            };
            match loaded {
                Ok(epoch) => {
                    if let Some(error) = why {
                        tracing::error!(%error, "a later epoch is damaged; the one before it is served");
                    }
                    self.reader.prepare(&epoch).await;
                    return Ok(self.take_up(epoch).await);
                }
                Err(error) => why = why.or(Some(error)),
            }
        }
        why.map_or(Ok(current), Err)
    }

    /// Loads the epoch of that number, if it came before the current one, for a request that began with it elsewhere; none if it cannot be
    /// loaded.
    pub async fn recall(&self, number: u64) -> Option<Arc<R::Epoch>> {
        let _turn = self.turn.lock().await;
        if let Some(found) = self.find(|epoch| R::manifest(epoch).epoch == number) {
            return Some(found);
        }
        let current = self.current();
        let manifest = self.epochs.read(number).await.ok()?;
        let epoch = self.reader.read(self.epochs.folder(), manifest, Some(&current)).await.ok()?;
        let epoch = Arc::new(epoch);
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        loaded.older.push((Arc::clone(&epoch), Instant::now()));
        Some(epoch)
    }

    /// Makes `manifest` the next epoch and takes it up; none if it does not follow the one that is served, or another writer was faster.
    ///
    /// # Errors
    /// It cannot be read, and is not committed; or nobody knows whether it was.
    pub async fn commit(&self, manifest: Manifest) -> Result<Option<Arc<R::Epoch>>, R::Error> {
        let _turn = self.turn.lock().await;
        let current = self.current();
        if manifest.epoch != R::manifest(&current).epoch + 1 {
            return Ok(None);
        }
        // What nobody can read must not become the latest.
        let epoch = self.reader.read(self.epochs.folder(), manifest.clone(), Some(&current)).await?;
        if !self.epochs.commit(&manifest).await? {
            return Ok(None);
        }
        self.reader.prepare(&epoch).await;
        Ok(Some(self.take_up(epoch).await))
    }

    /// Takes up later epochs as they come, and looks for them every `interval`.
    async fn follow(&self, interval: Duration) -> Infallible {
        let mut fails = false;
        loop {
            tokio::time::sleep(interval).await;
            let refreshed = self.refresh().await;
            if refreshed.is_err() != fails {
                let location = self.epochs.folder().location();
                match &refreshed {
                    Ok(_) => tracing::info!(location, "the knowledge base can be followed again"),
                    Err(error) => tracing::error!(%error, "the epoch that is loaded keeps serving"),
                }
            }
            fails = refreshed.is_err();
            self.drop_expired();
        }
    }

    /// The epochs after `number`, the latest first.
    async fn later(
        &self,
        number: u64,
        turn: &mut Turn,
    ) -> Result<Vec<(u64, Result<Manifest, StorageError>)>, StorageError> {
        let mut found = Vec::new();
        let mut next = number + 1;
        loop {
            match self.epochs.read(next).await {
                Err(StorageError::NotFound { .. }) => break,
                Err(error) if !error.is_damage() => return Err(error),
                read => found.push((next, read)),
            }
            next += 1;
            if found.len() == MANY {
                break;
            }
        }
        if found.len() == MANY || (found.is_empty() && turn.listed.elapsed() > LIST_EVERY) {
            if let Some(&latest) = self.epochs.numbers(Some(number)).await?.last() {
                found.push((latest, self.epochs.read(latest).await));
            }
            turn.listed = Instant::now();
        }
        found.reverse();
        Ok(found)
    }

    async fn take_up(&self, epoch: R::Epoch) -> Arc<R::Epoch> {
        self.reader.taken_up(&epoch);
        let epoch = Arc::new(epoch);
        let before = {
            let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut loaded.current, Arc::clone(&epoch));
            loaded.older.push((Arc::clone(&before), Instant::now()));
            before
        };
        self.drop_expired();
        // What no epoch has any more is not needed on this machine, and perhaps somebody wants it gone.
        let kept: HashSet<&String> = R::manifest(&epoch)
            .all_segments()
            .flat_map(Segment::all_files)
            .map(|file| &file.sha256)
            .collect();
        for file in R::manifest(&before).segments.iter().flat_map(Segment::all_files) {
            if !kept.contains(&file.sha256) {
                self.epochs.folder().evict(file).await;
            }
        }
        epoch
    }

    fn drop_expired(&self) {
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        loaded.older.retain(|(_, until)| until.elapsed() < KEPT_FOR);
        let surplus = loaded.older.len().saturating_sub(R::MOST_KEPT);
        loaded.older.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
