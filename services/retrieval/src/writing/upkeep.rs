//! What is done for a knowledge base between changes: small segments become larger ones, what is to be forgotten is removed, and so is
//! what no epoch needs any more.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reverie_knowledge::Live;
use reverie_knowledge::epoch::Manifest;
use reverie_service_kit::Permit;
use tokio::sync::watch;

use super::rewrite::{RewriteError, Task};
use super::{Change, Writer, garbage};
use crate::knowledge_base::{KnowledgeBase, Reader};

/// A round comes after each change, and at least so often.
const ROUND_EVERY: Duration = Duration::from_mins(1);
/// What no epoch needs is looked for this often.
const COLLECT_EVERY: Duration = Duration::from_mins(10);
/// What failed is tried again so much later.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A damaged segment is left alone for so long.
const PUT_ASIDE_FOR: Duration = Duration::from_secs(30);

type Failure = Box<dyn Error + Send + Sync>;

/// How far upkeep has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The epoch that it saw last.
    pub(super) as_of: u64,
    /// Segments that could not be written anew, and why.
    pub(super) put_aside: BTreeMap<String, Arc<str>>,
}

/// What is to be done.
enum Next {
    /// Segments are written anew.
    Rewrite(Task),
    /// What came before becomes void.
    Raise {
        oldest: u64,
    },
    Nothing,
}

/// Looks after one knowledge base.
pub(super) struct Upkeep {
    live: Arc<Live<Reader>>,
    writer: Writer,
    rounds: watch::Receiver<u64>,
    /// By segment, what is wrong with it, and when that was seen.
    put_aside: BTreeMap<String, (Arc<str>, Instant)>,
    /// See [`Manifest::oldest`]: what is void by then is removed.
    swept: u64,
}

impl Upkeep {
    pub(super) fn new(live: Arc<Live<Reader>>, writer: Writer) -> Self {
        let rounds = writer.rounds.subscribe();
        Self { live, writer, rounds, put_aside: BTreeMap::new(), swept: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut collected: Option<Instant> = None;
        loop {
            self.rounds.mark_unchanged();
            let mut done = self.round().await;
            if done.is_ok() {
                done = self.sweep().await;
            }
            if done.is_ok() && collected.is_none_or(|then| then.elapsed() > COLLECT_EVERY) {
                done = garbage::collect(&self.live, &self.writer).await;
                collected = Some(Instant::now());
            }
            if let Err(why) = &done {
                let location = self.live.epochs().folder().location();
                tracing::warn!(location, %why, "upkeep of the knowledge base failed, and is tried again");
                // There may be something void that was to be removed.
                self.swept = 0;
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
            let wait = if self.put_aside.is_empty() { ROUND_EVERY } else { PUT_ASIDE_FOR };
            // An error means that the sender is gone, which is in `self`.
            let _ = tokio::time::timeout(wait, self.rounds.changed()).await;
        }
    }

    /// Does all that is to be done; a damaged segment is put aside for a while, so that the rest is done all the same.
    async fn round(&mut self) -> Result<(), Failure> {
        self.put_aside.retain(|_, (_, since)| since.elapsed() < PUT_ASIDE_FOR);
        loop {
            let base = self.live.current()?;
            if matches!(self.next(&base.manifest), Next::Nothing) {
                let put_aside = self.put_aside.iter().map(|(name, (why, _))| (name.clone(), why.clone()));
                let progress = Progress { as_of: base.epoch, put_aside: put_aside.collect() };
                self.writer.progress.send_replace(progress);
                return Ok(());
            }
            // A later epoch may say something else, or nobody knows what, if it cannot be read.
            let base = self.live.refresh().await?;
            match self.next(&base.manifest) {
                Next::Nothing => {}
                Next::Rewrite(task) => self.carry_out(task, &base).await?,
                Next::Raise { oldest } => {
                    self.writer.change(Change::Raise { oldest }, Permit::default()).await?;
                }
            }
        }
    }

    /// What is to be done next for an epoch.
    fn next(&self, manifest: &Manifest) -> Next {
        let task = Task::choose(manifest, |segment| self.put_aside.contains_key(&segment.name));
        let oldest = self.writer.oldest.load(Ordering::SeqCst);
        match task {
            Some(task) if task.forgets() => Next::Rewrite(task),
            // Between two tasks: what is being written may have something that is void then.
            _ if oldest > manifest.oldest => Next::Raise { oldest },
            Some(task) => Next::Rewrite(task),
            None => Next::Nothing,
        }
    }

    async fn carry_out(&mut self, task: Task, base: &KnowledgeBase) -> Result<(), Failure> {
        let epochs = self.live.epochs();
        let segments = task.segments().to_vec();
        let rewritten = match task.run(base, epochs.folder()).await {
            Ok(rewritten) => rewritten,
            Err(RewriteError::Unreadable { segment, why }) => {
                // Another process may have been faster, and removed it.
                let now = self.live.refresh().await?;
                if now.manifest.all_segments().any(|listed| listed.name == segment) {
                    let location = epochs.folder().location();
                    tracing::warn!(
                        location,
                        segment,
                        why,
                        "a segment is damaged, and cannot be written anew"
                    );
                    self.put_aside.insert(segment, (why.into(), Instant::now()));
                }
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let written = rewritten.segment.clone();
        let stored = self.writer.change(Change::Replace(rewritten), Permit::default()).await?;
        if let Some(written) = written {
            // Another process was faster, and said so.
            let is_listed = stored.manifest.all_segments().any(|listed| listed.name == written.name);
            if !is_listed && stored.manifest.is_void(&written.name) {
                epochs.remove_segment(&written.name).await?;
            }
        }
        // They may have come into the cache again.
        self.live.evict_unlisted(segments.iter()).await;
        Ok(())
    }

    /// Removes what is void, if there may be something.
    async fn sweep(&mut self) -> Result<(), Failure> {
        let oldest = self.live.current().map_or(0, |base| base.manifest.oldest);
        if oldest > self.swept {
            garbage::sweep(self.live.epochs()).await?;
            self.swept = oldest;
        }
        Ok(())
    }
}
