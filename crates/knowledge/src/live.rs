//! A knowledge base that a service follows while others write to it: the epoch that is loaded, and those that were until a moment ago.
//!
//! An epoch is taken up as a whole or not at all. Whoever began with one keeps it to the end; while a later one is damaged, the one
//! that is loaded keeps serving. Nobody goes back: an earlier epoch may have what was deleted since, so at the start it is the latest
//! one or none.

use std::collections::HashSet;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reverie_storage::{Folder, StorageError};

use crate::epoch::{Manifest, Segment};
use crate::epochs::{Commit, Epochs};

/// How long an epoch is kept for requests that began with it elsewhere.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Epochs are found one after another; the whole list is read now and then, since some may have been removed.
const LIST_EVERY: Duration = Duration::from_mins(1);
/// With so many new ones, too.
const MANY: usize = 16;
/// Damaged files are read again after a while, and after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Files that are not there may have been removed because a later epoch came.
const ATTEMPTS: usize = 3;

/// What a service reads of an epoch.
pub trait Read: Send + Sync + 'static {
    /// An epoch, loaded.
    type Epoch: Send + Sync + 'static;
    /// How many epochs are kept beside the current one, for requests that began with them elsewhere.
    const MOST_KEPT: usize;
    /// Why it cannot be loaded.
    type Error: LoadError;

    /// Loads an epoch. `before` is the one that was loaded before, with which it may have segments in common.
    fn read(
        &self,
        folder: &Folder,
        manifest: Manifest,
        before: Option<&Self::Epoch>,
    ) -> impl Future<Output = Result<Self::Epoch, Self::Error>> + Send;

    /// The manifest of a loaded epoch.
    fn manifest(epoch: &Self::Epoch) -> &Manifest;

    /// Whether an epoch that was read can be taken up: time for what must come before.
    fn prepare(&self, _epoch: &Self::Epoch) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// An epoch is served from now on.
    fn taken_up(&self, _epoch: &Self::Epoch) {}

    /// It was looked for a later epoch: whether there is one that cannot be loaded, or nobody knows.
    fn looked(&self, _is_stale: bool) {}
}

/// Why an epoch cannot be loaded.
pub trait LoadError: Error + From<StorageError> + Send + Sync + 'static {
    /// Whether files are missing or not what they should be, so that another epoch may be loaded, or this one later.
    fn is_damage(&self) -> bool;
}

impl LoadError for StorageError {
    fn is_damage(&self) -> bool {
        Self::is_damage(self)
    }
}

/// No epoch of a knowledge base is loaded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no epoch of the knowledge base can be loaded: {0}")]
pub struct NotLoaded(Arc<str>);

/// A knowledge base that is followed.
#[derive(Debug)]
pub struct Live<R: Read> {
    epochs: Epochs,
    reader: R,
    /// Whether files can be listed.
    may_list: bool,
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

/// Whether one of several knowledge bases can be searched, so that it is worth while to serve, or there is none; `Err` says why the
/// first cannot.
pub fn one_is_loaded<R: Read>(all: &[Arc<Live<R>>]) -> Result<(), NotLoaded> {
    let why = all.iter().map(|live| live.current().err()).collect::<Option<Vec<_>>>();
    why.into_iter().flatten().next().map_or(Ok(()), Err)
}

#[derive(Debug)]
struct Loaded<T> {
    current: Result<Arc<T>, NotLoaded>,
    /// Those before it, the latest last, and until when each was the current one.
    older: Vec<(Arc<T>, Instant)>,
}

#[derive(Debug)]
struct Turn {
    /// When epochs were listed; none if that is to be done next.
    listed: Option<Instant>,
    damage: Option<Damage>,
}

/// A later epoch that cannot be loaded.
#[derive(Debug)]
struct Damage {
    why: String,
    seen: Instant,
    pause: Duration,
}

impl<R: Read> Live<R> {
    /// Loads the latest epoch in `folder`. If it is damaged, that is told in the log, no epoch is loaded, and it is tried again.
    ///
    /// # Errors
    /// There is no knowledge base, it cannot be reached, or it is another one than the reader expects.
    pub async fn open(folder: Folder, reader: R) -> Result<Self, R::Error> {
        let epochs = Epochs::new(folder);
        let may_list = epochs.may_list().await?;
        let not_yet = NotLoaded("it was not tried yet".into());
        let loaded = Loaded { current: Err(not_yet), older: Vec::new() };
        let turn = Turn { listed: None, damage: None };
        let live = Self { epochs, reader, may_list, loaded: RwLock::new(loaded), turn: turn.into() };
        // Whether there is one at all.
        if let Err(error @ StorageError::NotFound { .. }) = live.latest().await {
            return Err(error.into());
        }
        match live.refresh().await {
            Err(error) if error.is_damage() => {
                let location = live.epochs.folder().location();
                tracing::error!(location, %error, "the knowledge base is damaged; nobody can search it until it is mended");
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(live)
    }

    /// Where its epochs are.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Whether it can be changed from here, as far as is known: a writer must list files.
    pub fn may_be_changed(&self) -> bool {
        self.may_list
    }

    /// What reads it.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// The epoch that is served.
    pub fn current(&self) -> Result<Arc<R::Epoch>, NotLoaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// The latest epoch of those in memory of which `holds` is true.
    pub fn find(&self, holds: impl Fn(&R::Epoch) -> bool) -> Option<Arc<R::Epoch>> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let older = loaded.older.iter().rev().map(|(epoch, _)| epoch);
        loaded.current.iter().chain(older).find(|epoch| holds(epoch)).map(Arc::clone)
    }

    /// Lets go of the epochs before the current one.
    pub fn drop_older(&self) {
        self.loaded.write().unwrap_or_else(PoisonError::into_inner).older.clear();
    }

    /// Takes up the latest epoch that can be loaded, if it comes after the one that is served. Returns the one that is served then.
    ///
    /// # Errors
    /// There is a later one that cannot be loaded, or nobody knows whether there is one.
    pub async fn refresh(&self) -> Result<Arc<R::Epoch>, R::Error> {
        let mut turn = self.turn.lock().await;
        if let Some(Damage { why, .. }) =
            turn.damage.as_ref().filter(|damage| damage.seen.elapsed() < damage.pause)
        {
            let file = self.epochs.folder().location();
            return Err(StorageError::content(file, format!("{why} (it is tried again in a while)")).into());
        }
        let mut tried = 0;
        let mut outcome = self.try_later(&mut turn, &mut tried).await;
        for _ in 1..ATTEMPTS {
            // What it had may be removed, because a later one came meanwhile.
            if outcome.is_ok() || self.epochs.read(tried + 1).await.is_err() {
                break;
            }
            outcome = self.try_later(&mut turn, &mut tried).await;
        }
        self.reader.looked(outcome.is_err());
        turn.damage = match &outcome {
            Err(error) if error.is_damage() => {
                let pause =
                    turn.damage.take().map_or(FIRST_PAUSE, |before| LONGEST_PAUSE.min(2 * before.pause));
                Some(Damage { why: error.to_string(), seen: Instant::now(), pause })
            }
            _ => None,
        };
        if let Err(error) = &outcome
            && let Err(why) = &mut self.loaded.write().unwrap_or_else(PoisonError::into_inner).current
        {
            *why = NotLoaded(error.to_string().into());
        }
        outcome
    }

    /// Tries the later epochs, the latest first, and says which that was.
    async fn try_later(&self, turn: &mut Turn, tried: &mut u64) -> Result<Arc<R::Epoch>, R::Error> {
        let current = self.current().ok();
        let (mut why, mut passed_over): (Option<R::Error>, Vec<Manifest>) = (None, Vec::new());
        for (number, manifest) in self.later(current.as_deref().map(R::manifest), turn).await? {
            *tried = number.max(*tried);
            let loaded = match manifest {
                Ok(manifest) => {
                    passed_over.push(manifest.clone());
                    self.reader.read(self.epochs.folder(), manifest, current.as_deref()).await
                }
                Err(error) => Err(error.into()),
            };
            let prepared = match loaded {
                Ok(epoch) if current.is_some() => self.reader.prepare(&epoch).await.map(|()| epoch),
                loaded => loaded,
            };
            match prepared {
                Ok(epoch) => {
                    let epoch = self.take_up(epoch).await;
                    self.evict_unlisted(passed_over.iter().flat_map(Manifest::all_segments)).await;
                    // One that is damaged comes after it.
                    return why.map_or(Ok(epoch), Err);
                }
                Err(error) if error.is_damage() => why = why.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match (why, current) {
            (Some(why), _) => Err(why),
            (None, Some(current)) => Ok(current),
            (None, None) => Err(StorageError::NotFound { file: self.epochs.describe(1) }.into()),
        }
    }

    /// Loads the epoch of that number, if it came before the current one, for a request that began with it elsewhere; none if it cannot be
    /// loaded.
    pub async fn recall(&self, number: u64) -> Option<Arc<R::Epoch>> {
        let _turn = self.turn.lock().await;
        if let Some(found) = self.find(|epoch| R::manifest(epoch).epoch == number) {
            return Some(found);
        }
        let current = self.current().ok()?;
        let manifest = self.epochs.find(number).await.ok()?;
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
        let mut turn = self.turn.lock().await;
        let Ok(current) = self.current() else { return Ok(None) };
        if manifest.epoch != R::manifest(&current).epoch + 1 {
            return Ok(None);
        }
        // What nobody can read must not become the latest.
        let epoch = self.reader.read(self.epochs.folder(), manifest.clone(), Some(&current)).await?;
        if self.epochs.commit(&manifest, R::manifest(&current)).await? != Commit::Stored {
            turn.listed = None;
            self.evict_unlisted(manifest.all_segments()).await;
            return Ok(None);
        }
        // It is stored, whatever comes of it now: the next to look for a later one is told what is wrong.
        let _ = self.reader.prepare(&epoch).await;
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

    /// The manifest of the latest epoch, or of the first one where later ones cannot be listed.
    async fn latest(&self) -> Result<Manifest, StorageError> {
        if self.may_list { self.epochs.latest().await } else { Manifest::read(self.epochs.folder()).await }
    }

    /// The manifests of the epochs after this one, the latest first; without one, that of the latest alone.
    async fn later(
        &self,
        current: Option<&Manifest>,
        turn: &mut Turn,
    ) -> Result<Vec<(u64, Result<Manifest, StorageError>)>, StorageError> {
        let Some(current) = current else {
            let found = self.latest().await;
            return Ok(vec![(found.as_ref().map_or(0, |manifest| manifest.epoch), found)]);
        };
        if self.epochs.folder().is_only_read() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut next = current.epoch + 1;
        while found.len() < MANY {
            match self.epochs.read(next).await {
                Err(StorageError::NotFound { .. }) => break,
                // What is not there is denied, too, to whoever may not list files.
                Err(StorageError::Denied { .. }) if !self.may_list => break,
                Err(error) if !error.is_damage() => return Err(error),
                read => found.push((next, read)),
            }
            next += 1;
        }
        if !self.may_list {
            found.reverse();
            return Ok(found);
        }
        // After one that was removed comes, perhaps, what a writer left that came too late.
        if !found.is_empty() && !self.epochs.is_there(current).await {
            (found, next, turn.listed) = (Vec::new(), current.epoch + 1, None);
        }
        let is_due = turn.listed.is_none_or(|listed| listed.elapsed() > LIST_EVERY);
        if found.len() == MANY || (found.is_empty() && is_due) {
            if let Some(&latest) = self.epochs.numbers(Some(current.epoch)).await?.last()
                && latest >= next
            {
                found.push((latest, self.epochs.read(latest).await));
            }
            turn.listed = Some(Instant::now());
        }
        found.reverse();
        Ok(found)
    }

    /// Removes from the cache of this machine what these segments have and the epoch that is served has not.
    pub async fn evict_unlisted<'a>(&self, segments: impl Iterator<Item = &'a Segment>) {
        let current = self.current().ok();
        let listed = current.iter().flat_map(|epoch| R::manifest(epoch).all_segments());
        let listed: HashSet<&String> = listed.flat_map(Segment::all_files).map(|file| &file.sha256).collect();
        for file in segments.flat_map(Segment::all_files) {
            if !listed.contains(&file.sha256) {
                self.epochs.folder().evict(file).await;
            }
        }
    }

    async fn take_up(&self, epoch: R::Epoch) -> Arc<R::Epoch> {
        self.reader.taken_up(&epoch);
        let epoch = Arc::new(epoch);
        let before = {
            let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut loaded.current, Ok(Arc::clone(&epoch))).ok();
            loaded.older.extend(before.clone().map(|before| (before, Instant::now())));
            before
        };
        self.drop_expired();
        // What no epoch has any more is not needed on this machine, and perhaps somebody wants it gone.
        self.evict_unlisted(before.iter().flat_map(|before| R::manifest(before).all_segments())).await;
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
