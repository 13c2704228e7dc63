//! What is done for a knowledge base between changes: small segments become larger ones, what is to be forgotten is removed, and so is
//! what no epoch needs any more.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reverie_knowledge::Live;
use reverie_service_kit::Permit;
use tokio::sync::watch;

use super::rewrite::Task;
use super::{Change, Writer, garbage};
use crate::knowledge_base::{KnowledgeBase, Reader};

/// A round comes after each change, and at least so often.
const ROUND_EVERY: Duration = Duration::from_mins(1);
/// What no epoch needs is looked for this often.
const COLLECT_EVERY: Duration = Duration::from_mins(10);
/// What failed is tried again so much later.
const RETRY_AFTER: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

/// How far upkeep has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The epoch that it saw last.
    pub(super) as_of: u64,
    /// Segments that could not be written anew, and why.
    pub(super) put_aside: BTreeMap<String, Arc<str>>,
}

/// Looks after one knowledge base.
pub(super) struct Upkeep {
    live: Arc<Live<Reader>>,
    writer: Writer,
    rounds: watch::Receiver<u64>,
    /// By segment, what could not be done, and when.
    failed: BTreeMap<String, (Arc<str>, Instant)>,
    /// See [`Manifest::oldest`](reverie_knowledge::epoch::Manifest::oldest): what is void by then is removed.
    swept: u64,
}

impl Upkeep {
    pub(super) fn new(live: Arc<Live<Reader>>, writer: Writer) -> Self {
        let rounds = writer.rounds.subscribe();
        Self { live, writer, rounds, failed: BTreeMap::new(), swept: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut collected: Option<Instant> = None;
        loop {
            self.rounds.mark_unchanged();
            self.round().await;
            let mut done = self.sweep().await;
            if done.is_ok() && collected.is_none_or(|then| then.elapsed() > COLLECT_EVERY) {
                done = garbage::collect(&self.live, &self.writer).await;
                collected = Some(Instant::now());
            }
            if let Err(why) = &done {
                let location = self.live.epochs().folder().location();
                tracing::warn!(location, %why, "what no epoch needs cannot be removed; it is tried again");
            }
            let wait = if done.is_err() || !self.failed.is_empty() { RETRY_AFTER } else { ROUND_EVERY };
            // An error means that the sender is gone, which is in `self`.
            let _ = tokio::time::timeout(wait, self.rounds.changed()).await;
        }
    }

    /// Does all that is to be done. What fails is put aside for a while, so that the rest is done all the same.
    async fn round(&mut self) {
        self.failed.retain(|_, (_, since)| since.elapsed() < RETRY_AFTER);
        // Nothing is done for one that is not loaded.
        while let Ok(base) = self.live.current() {
            let is_put_aside = |name: &str| self.failed.contains_key(name);
            let Some(task) = Task::choose(&base.manifest, |segment| is_put_aside(&segment.name)) else {
                let put_aside = self.failed.iter().map(|(name, (why, _))| (name.clone(), Arc::clone(why)));
                let progress = Progress { as_of: base.epoch, put_aside: put_aside.collect() };
                self.writer.progress.send_replace(progress);
                return;
            };
            let names: Vec<String> = task.names().collect();
            if let Err(why) = self.carry_out(task, &base).await {
                // Another process may have been faster, and removed them.
                let now = self.live.refresh().await.unwrap_or(base);
                if !now.manifest.all_segments().any(|segment| names.contains(&segment.name)) {
                    continue;
                }
                let (location, segments) = (self.live.epochs().folder().location(), names.join(", "));
                tracing::warn!(location, segments, %why, "segments cannot be written anew; it is tried again");
                let why: Arc<str> = why.to_string().into();
                self.failed.extend(names.into_iter().map(|name| (name, (Arc::clone(&why), Instant::now()))));
            }
        }
    }

    async fn carry_out(&self, task: Task, base: &KnowledgeBase) -> Result<(), Failure> {
        let epochs = self.live.epochs();
        let rewritten = task.run(base, epochs.folder()).await?;
        let written = rewritten.segment.clone();
        let stored = self.writer.change(Change::Replace(rewritten), Permit::default()).await?;
        if let Some(unused) = written
            && stored.manifest.epoch == stored.before.epoch
        {
            // Another process was faster, or what it was made of is there no more.
            epochs.remove_segment(&unused.name).await?;
        }
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
