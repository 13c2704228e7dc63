//! What is done for a knowledge base between changes: small segments become larger ones, what is to be forgotten is removed, and so is
//! what no epoch needs any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reverie_knowledge::Live;
use reverie_service_kit::Permit;
use tokio::sync::watch;

use super::garbage;
use super::rewrite::Task;
use super::{Change, Writer};
use crate::knowledge_base::Reader;

/// A round comes after each change, and at least so often.
const ROUND_EVERY: Duration = Duration::from_mins(1);
/// What no epoch needs is looked for this often.
const COLLECT_EVERY: Duration = Duration::from_mins(10);
/// After a failure, the next one comes so much later.
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Looks after one knowledge base.
pub(super) struct Upkeep {
    live: Arc<Live<Reader>>,
    writer: Writer,
    rounds: watch::Receiver<u64>,
}

impl Upkeep {
    pub(super) fn new(live: Arc<Live<Reader>>, writer: Writer) -> Self {
        let rounds = writer.rounds.subscribe();
        Self { live, writer, rounds }
    }

    pub(super) async fn run(mut self) {
        let mut collected: Option<Instant> = None;
        loop {
            self.rounds.mark_unchanged();
            let mut done = self.round().await;
            if done.is_ok() && collected.is_none_or(|then| then.elapsed() > COLLECT_EVERY) {
                done = garbage::collect(self.live.epochs()).await.map_err(Into::into);
                collected = Some(Instant::now());
            }
            if let Err(why) = done {
                let location = self.live.epochs().folder().location();
                tracing::warn!(location, %why, "upkeep of the knowledge base failed, and is tried again");
                tokio::time::sleep(WAIT_AFTER_FAILURE).await;
            }
            // An error means that the sender is gone, which is in `self`.
            let _ = tokio::time::timeout(ROUND_EVERY, self.rounds.changed()).await;
        }
    }

    /// Does all that is to be done.
    async fn round(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        loop {
            let base = self.live.current();
            let folder = self.live.epochs().folder();
            let Some(task) = Task::next(&base, folder).await? else { break };
            let rewritten = task.run(&self.live).await?;
            let (epochs, written) = (self.live.epochs(), rewritten.segment.clone());
            let stored = self.writer.change(Change::Replace(rewritten), Permit::default()).await?;
            match written {
                // Another process was faster, or what it was made of is there no more.
                Some(unused) if stored.manifest.epoch == stored.before.epoch => {
                    garbage::remove_unused(epochs, &unused).await?;
                }
                _ => garbage::remove_forgotten(epochs, &stored.before, &stored.manifest).await?,
            }
        }
        Ok(())
    }
}
