//! Starting the scheduler, and the handle its callers hold.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use reverie_diffusion::guidance::MAX_ROWS;
use tokio::sync::{mpsc, watch};
use tracing::Span;

use crate::model::RowModel;
use crate::outlet::Outlet;
use crate::queue::{Queue, Stats, SubmitError, Waiting};
use crate::trajectory::{Event, Trajectory};
use crate::worker::Worker;

/// The limits of a scheduler; each at least 1, but for the rows of a pass, which are at least [`MAX_ROWS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulerSettings {
    /// Trajectories in progress at once: each holds one x in memory.
    pub max_trajectories: usize,
    /// Trajectories in the queue: more are refused.
    pub max_waiting: usize,
    /// Rows of one forward pass; the model's own limit applies too.
    pub max_rows_per_tick: usize,
    /// Events a receiver may lag behind before progress is left out.
    pub progress_events: usize,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self { max_trajectories: 16, max_waiting: 64, max_rows_per_tick: 16, progress_events: 16 }
    }
}

impl SchedulerSettings {
    /// Names the limit that is too small, if one is.
    pub fn validate(&self) -> Result<(), TooSmall> {
        let limits = [
            ("max_trajectories", self.max_trajectories, 1),
            ("max_waiting", self.max_waiting, 1),
            // All rows of a step share a pass, and weighted guidance takes the most.
            ("max_rows_per_tick", self.max_rows_per_tick, MAX_ROWS),
            ("progress_events", self.progress_events, 1),
        ];
        let too_small = limits.into_iter().find(|(_, limit, least)| limit < least);
        too_small.map_or(Ok(()), |(name, limit, least)| Err(TooSmall { name, limit, least }))
    }
}

/// A limit that would not let everything through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be at least {least} (got {limit})")]
pub struct TooSmall {
    /// Its name.
    pub name: &'static str,
    limit: usize,
    least: usize,
}

/// Why a scheduler did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A limit is too small.
    #[error("{name} {0}", name = .0.name)]
    TooSmall(#[from] TooSmall),
    /// The operating system gave no thread.
    #[error("no thread for the step scheduler: {0}")]
    Thread(#[from] std::io::Error),
}

/// Longest wait of [`SchedulerHandle::end`].
const LAST_PASS: Duration = Duration::from_secs(5);

/// The step scheduler.
#[derive(Debug)]
pub struct Scheduler;

impl Scheduler {
    /// Starts a thread that owns `model` and serves trajectories until told to shut down, or until the last handle is
    /// dropped; in both cases what was accepted is finished first.
    pub fn spawn<M: RowModel>(
        model: M,
        settings: SchedulerSettings,
    ) -> Result<SchedulerHandle<M::Conditions>, SpawnError> {
        let max_rows = settings.max_rows_per_tick.min(model.max_rows());
        settings.validate()?;
        if max_rows < MAX_ROWS {
            let name = "the model's max_rows";
            return Err(TooSmall { name, limit: max_rows, least: MAX_ROWS }.into());
        }
        let queue = Arc::new(Queue::new(settings.max_waiting));
        let (ended, has_ended) = watch::channel(false);
        let end = End { queue: Arc::clone(&queue), ended };
        let worker = Worker::new(model, Arc::clone(&queue), settings.max_trajectories, max_rows);
        thread::Builder::new().name("step-scheduler".into()).spawn(move || {
            // Last to go, even when the worker panics.
            let _end = end;
            worker.run();
        })?;
        let owner = Arc::new(Owner(queue));
        Ok(SchedulerHandle { owner, has_ended, progress_events: settings.progress_events })
    }
}

/// Tells callers that the worker has ended, however it did.
struct End<C> {
    queue: Arc<Queue<C>>,
    ended: watch::Sender<bool>,
}

impl<C> Drop for End<C> {
    fn drop(&mut self) {
        self.queue.abandon();
        self.ended.send_replace(true);
    }
}

/// Closes the queue when the last handle is dropped.
struct Owner<C>(Arc<Queue<C>>);

impl<C> Drop for Owner<C> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A caller's end of the scheduler; cheap to clone.
pub struct SchedulerHandle<C> {
    owner: Arc<Owner<C>>,
    has_ended: watch::Receiver<bool>,
    progress_events: usize,
}

impl<C> SchedulerHandle<C> {
    /// Queues `trajectory`; never blocks.
    ///
    /// The receiver yields [`Event::Progress`] and, always, one last [`Event::Finished`] or [`Event::Failed`]. Dropping
    /// it cancels the trajectory before its next step.
    pub fn submit(&self, trajectory: Trajectory<C>) -> Result<mpsc::Receiver<Event>, SubmitError> {
        if trajectory.elements == 0 {
            return Err(SubmitError::Empty);
        }
        let (outlet, events) = Outlet::new(self.progress_events);
        self.owner.0.push(Waiting {
            trajectory,
            outlet,
            span: Span::current(),
            submitted: Instant::now(),
        })?;
        Ok(events)
    }

    /// What the scheduler has done and holds now.
    pub fn stats(&self) -> Stats {
        self.owner.0.stats()
    }

    /// Whether the worker thread serves: false once it has shut down, or died.
    pub fn is_alive(&self) -> bool {
        self.owner.0.is_served()
    }

    /// Takes nothing new from now on; what was accepted is finished.
    pub fn begin_shutdown(&self) {
        self.owner.0.close();
    }

    /// Takes nothing new, and waits until everything accepted is finished and the model is dropped.
    pub async fn shutdown(&self) {
        self.begin_shutdown();
        // An error means that the sender is gone, and the worker with it.
        let _ = self.has_ended.clone().wait_for(|ended| *ended).await;
    }

    /// For a server whose calls are over or cut off: takes nothing new, and waits for the forward pass that may still be
    /// running, five seconds at most. A process that ends during a pass takes its runtime away beneath it.
    pub async fn end(&self) {
        let _ = tokio::time::timeout(LAST_PASS, self.shutdown()).await;
    }
}

impl<C> Clone for SchedulerHandle<C> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), has_ended: self.has_ended.clone(), ..*self }
    }
}

impl<C> std::fmt::Debug for SchedulerHandle<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchedulerHandle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
