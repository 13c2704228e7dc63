//! Changes of a knowledge base. One task for each that can be changed takes them in turn: those that wait are stored together, as one
//! segment and one epoch, and are acknowledged when the epoch is stored ([`commit`]). Other processes may write, too; whoever comes second
//! with an epoch begins again from the one that came first.
//!
//! Beside it, [`upkeep`] merges small segments, removes what is to be forgotten, and what no epoch needs any more.

mod change;
mod commit;
mod garbage;
mod rewrite;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reverie_knowledge::Live;
use reverie_knowledge::epoch::Manifest;
use reverie_service_kit::{Permit, Refusal};
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tonic::Status;

pub(crate) use change::{Change, NewEntry, SnapshotChange, Told};

use crate::knowledge_base::Reader;
use commit::{Committed, Committer};
use upkeep::{Progress, Upkeep};

/// Changes that may wait.
const MOST_WAITING: usize = 256;
/// Entries and bytes of pictures that are stored together; one change alone may have more.
const MOST_ENTRIES: usize = 1024;
const MOST_BYTES: usize = 64 << 20;
/// How often it is looked whether something is forgotten.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A change, and where to say what came of it.
#[derive(Debug)]
struct Job {
    change: Change,
    reply: oneshot::Sender<Result<Stored, Status>>,
    /// What the call takes of the service, as long as the change waits.
    _permit: Permit,
}

/// What came of a change.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// The epoch that has it.
    pub(crate) manifest: Arc<Manifest>,
    /// The one before it.
    pub(crate) before: Arc<Manifest>,
    pub(crate) told: Told,
}

/// Takes changes of one knowledge base; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    /// Told of each epoch that was committed.
    rounds: watch::Sender<u64>,
    /// How far upkeep has come.
    progress: watch::Sender<Progress>,
    /// What the oldest epoch should be, so that what was there before is void.
    oldest: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the tasks of a knowledge base among `tasks`.
    pub(crate) fn start(live: &Arc<Live<Reader>>, tasks: &mut JoinSet<()>) -> Self {
        let (jobs, waiting) = mpsc::channel(MOST_WAITING);
        let (rounds, progress) = (watch::Sender::new(0), watch::Sender::new(Progress::default()));
        let writer = Self { jobs, rounds, progress, oldest: Arc::default() };
        let committer = Committer::new(Arc::clone(live));
        tasks.spawn(take(committer, waiting, writer.rounds.clone()));
        tasks.spawn(Upkeep::new(Arc::clone(live), writer.clone()).run());
        writer
    }

    /// Stores a change. Returns when it is stored, or refused; a change whose caller is gone is stored all the same.
    pub(crate) async fn change(&self, change: Change, permit: Permit) -> Result<Stored, Status> {
        let (reply, stored) = oneshot::channel();
        self.jobs.try_send(Job { change, reply, _permit: permit }).map_err(|error| match error {
            TrySendError::Full(_) => {
                Refusal::overloaded(format!("{MOST_WAITING} changes of the knowledge base wait to be stored"))
            }
            TrySendError::Closed(_) => Refusal::unavailable("the service is shutting down"),
        })?;
        let gone = |_| Status::from(Refusal::unavailable("the service ended before it stored the change"));
        stored.await.map_err(gone)?
    }

    /// Waits until nothing is stored of what was to be forgotten, whichever process removes it; `Err` says what is in the way.
    pub(crate) async fn has_forgotten(&self, live: &Live<Reader>, stored: &Stored) -> Result<(), String> {
        // What was there before came with this epoch at the latest, were it stored or not.
        let (mut upkept, marked) = (self.progress.subscribe(), stored.before.epoch + 1);
        loop {
            let now = live.current().map_err(|error| error.to_string())?;
            let left = now.manifest.all_segments().filter(|it| it.to_forget().any(|at| at == marked));
            let left: Vec<&str> = left.map(|segment| segment.name.as_str()).collect();
            if now.epoch >= stored.manifest.epoch && left.is_empty() {
                if now.manifest.oldest >= marked {
                    return garbage::sweep(live.epochs()).await.map(drop).map_err(|error| error.to_string());
                }
                // There may be something in segments that are listed no more.
                if self.oldest.fetch_max(marked, Ordering::SeqCst) < marked {
                    self.rounds.send_modify(|rounds| *rounds += 1);
                }
            } else {
                let progress = upkept.borrow_and_update();
                let why = left.iter().find_map(|name| progress.put_aside.get(*name));
                if let Some(why) = why.filter(|_| progress.as_of >= marked) {
                    return Err(why.to_string());
                }
            }
            // Another process may be the one that does it; an error means that the sender is gone, which is in `self`.
            let _ = tokio::time::timeout(LOOK_EVERY, upkept.changed()).await;
        }
    }
}

/// Stores changes as they come; those that wait are stored together.
async fn take(committer: Committer, mut waiting: mpsc::Receiver<Job>, rounds: watch::Sender<u64>) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(job) => job,
            None => match waiting.recv().await {
                Some(job) => job,
                None => return,
            },
        };
        let mut jobs: Vec<Job> = vec![first];
        let (mut entries, mut bytes) = jobs[0].change.size();
        while jobs[0].change.is_of_entries() && entries < MOST_ENTRIES && bytes < MOST_BYTES {
            match waiting.try_recv() {
                Ok(job) if job.change.is_of_entries() => {
                    let size = job.change.size();
                    (entries, bytes) = (entries + size.0, bytes + size.1);
                    jobs.push(job);
                }
                Ok(job) => {
                    next = Some(job);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let changes: Vec<&Change> = jobs.iter().map(|job| &job.change).collect();
        let outcome = committer.commit(&changes).await;
        rounds.send_modify(|rounds| *rounds += 1);
        match outcome {
            Ok(Committed { manifest, before, told }) => {
                for (job, told) in jobs.into_iter().zip(told) {
                    let (manifest, before) = (Arc::clone(&manifest), Arc::clone(&before));
                    // Its caller may be gone.
                    let _ = job.reply.send(Ok(Stored { manifest, before, told }));
                }
            }
            Err(status) => {
                for job in jobs {
                    let _ = job.reply.send(Err(status.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
