//! A lane: the threads that run one model, and the bounded queue of the jobs that wait for it.
//!
//! Every model of the mesh runs on a lane, whatever it computes. Each thread of a lane has a session and computes one forward *pass* at a
//! time. A pass has as many *rows* as are ready and fit, up to the batch of the model; a row is one evaluation of the model for one
//! request. A pass is padded to the full batch and never waits to fill up, so an image is the same alone or in company. A row that
//! fails or panics fails its own job only.
//!
//! Whose row runs next, and which jobs are admitted, is the [`policy`]'s choice. A job that is cancelled, or that can no
//! longer meet its deadline, is dropped before its next row.

mod calibration;
mod jobs;
mod prediction;
mod queue;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use reverie_packages::Package;
use tokio::sync::watch;

use crate::cores::Cores;
use crate::cost::Weight;
use crate::metrics;
use crate::policy::{self, Caller, Class, Left};
use crate::single::{Computed, Single};
use crate::work::{Failure, Work};
use crate::{InferenceSettings, RowError};

pub use self::prediction::{Prediction, Resource};
pub(crate) use self::queue::Queue;
pub use self::queue::Stats;

/// A model as its lane runs it: rows in, outputs out.
pub trait RowModel: Send + 'static {
    /// What a row is computed from.
    type Row: Send + 'static;
    /// What comes of it.
    type Output: Send + 'static;

    /// Rows that one forward pass has room for, at least 1 and the same on all sessions of a lane. A pass with fewer rows is padded, so
    /// that a row is computed by the same kernels whatever shares the pass.
    fn batch(&self) -> usize {
        1
    }

    /// What a row costs relative to others of this model. Rows of equal weight cost the same.
    fn weight(_row: &Self::Row) -> Weight {
        Weight::from(1.0)
    }

    /// Rows to measure what a pass costs before the first request comes: of the shape that most requests have, and, where cost depends on
    /// how much a row is conditioned on, of its extremes. Without any, the first requests are admitted whatever they cost.
    fn typical_rows(&self) -> Vec<Self::Row> {
        Vec::new()
    }

    /// Whether two rows may share a pass, because they are of equal shape. A row that lies about its shape fails the whole pass, which
    /// costs time but no other row.
    fn can_share(_one: &Self::Row, _other: &Self::Row) -> bool {
        true
    }

    /// Computes rows that may share a pass, 1 to [`Self::batch`] of them, and gives their outputs in the same order. Blocks.
    ///
    /// After an error or a panic the model is used again, and so are the rows: the lane gives each of them a pass of its own to find the
    /// one that is wrong.
    fn run(&mut self, rows: &mut [Self::Row]) -> Result<Vec<Self::Output>, RowError>;
}

/// The limits of a lane.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneSettings {
    /// Jobs in progress and waiting together, at least 1; more are refused.
    pub max_jobs: usize,
    /// Seconds after which a row that has not ended makes the service `NOT_SERVING`, above 0.
    pub stall_seconds: f64,
    /// Seconds that the sessions of a model may compute to measure what a pass costs, before its first job; 0 for none. Each session
    /// computes one pass at least.
    pub calibration_seconds: f64,
    /// What a pass over rows of the model's own shape costs, in seconds, by the name of the model; for models that are not named it is
    /// measured.
    pub row_seconds: BTreeMap<String, f64>,
}

impl LaneSettings {
    /// Says which limit is out of range, if one is: its name, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.max_jobs == 0 {
            return Err(("max_jobs", "must be at least 1 (got 0)".to_owned()));
        }
        let within = |seconds: f64, is_above_least: bool| is_above_least && seconds <= MAX_SECONDS;
        let stall = self.stall_seconds;
        if !within(stall, stall > 0.0) {
            let told = format!("must be above 0 and at most {MAX_SECONDS} (got {stall})");
            return Err(("stall_seconds", told));
        }
        let calibration = self.calibration_seconds;
        if !within(calibration, calibration >= 0.0) {
            let told = format!("must be 0 to {MAX_SECONDS} (got {calibration})");
            return Err(("calibration_seconds", told));
        }
        if let Some((name, row)) = self.row_seconds.iter().find(|(_, row)| !within(**row, **row > 0.0)) {
            let told = format!("must be above 0 and at most {MAX_SECONDS} (got {row} for {name})");
            return Err(("row_seconds", told));
        }
        Ok(())
    }
}

const MAX_SECONDS: f64 = 86_400.0;

/// Who asks for a job, and by when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Whose share of the lane it takes.
    pub caller: Caller,
    /// How urgent it is.
    pub class: Class,
    /// When its result stops being of use.
    pub deadline: Option<Instant>,
    /// The process that plans the work of several lanes, of which this is a part; 0 if none does.
    pub origin: u64,
}

/// Why a job was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is at its limit.
    #[error("{jobs} jobs are in progress or waiting, and at most {limit} may be")]
    Full {
        /// Jobs in progress and waiting.
        jobs: usize,
        /// The most that there may be.
        limit: usize,
    },
    /// It could not be done in time, or not without making others late.
    #[error(transparent)]
    Policy(#[from] policy::Refused),
    /// The lane finishes what it has and takes nothing new.
    #[error("the model is shutting down")]
    ShuttingDown,
    /// A thread of the lane died.
    #[error("a thread that runs the model died")]
    Gone,
}

/// Why a row that was asked for has no output.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RunError {
    /// It was not admitted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// It was, and came to nothing.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl RunError {
    /// Whether it is due to the deadline or the share of the one who asked: another one may fare better with the same row.
    pub fn is_personal(&self) -> bool {
        match self {
            Self::Submit(error) => matches!(error, SubmitError::Policy(_)),
            Self::Failed(failure) => matches!(failure, Failure::DeadlineExceeded { .. }),
        }
    }
}

/// Why a lane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no session to run.
    #[error("a lane needs at least one session")]
    NoSession,
    /// The operating system gave no thread.
    #[error("no thread for the lane of a model: {0}")]
    Thread(#[from] std::io::Error),
}

/// What is wrong with a lane, for the health of its service.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// A row takes longer than [`LaneSettings::stall_seconds`]. It may end yet.
    #[error("a forward pass of {model} has been running for {seconds:.0} s")]
    Stalled {
        /// The lane's model.
        model: Arc<str>,
        /// How long it has been running.
        seconds: f64,
    },
    /// A thread died: the process has to be started anew.
    #[error("a thread that runs {model} died")]
    Died {
        /// The lane's model.
        model: Arc<str>,
    },
}

/// Longest wait of [`Lane::end`].
const LAST_ROWS: Duration = Duration::from_secs(1);

/// A lane's handle; cheap to clone. The last one that is dropped lets the lane finish what it has, and end.
pub struct Lane<M: RowModel> {
    owner: Arc<Owner<M>>,
    has_ended: watch::Receiver<bool>,
}

/// Closes the queue when the last handle is dropped.
struct Owner<M: RowModel>(Arc<Queue<M>>);

impl<M: RowModel> Drop for Owner<M> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<M: RowModel> Lane<M> {
    /// Starts a thread for each of `models`, which are sessions of the model `name`. A row keeps `cores_of_a_row` of `cores` busy.
    pub fn start(
        name: &str,
        models: Vec<M>,
        settings: &LaneSettings,
        cores: &Arc<Cores>,
        cores_of_a_row: usize,
    ) -> Result<Self, StartError> {
        if models.is_empty() {
            return Err(StartError::NoSession);
        }
        let queue = Arc::new(Queue::new(name, &models, settings, (cores, cores_of_a_row)));
        metrics::observe_lane(&queue, models.len());
        let (ended, has_ended) = watch::channel(false);
        let ended = Arc::new(Ended(ended));
        // Dropped on an error, it ends the threads that were started.
        let owner = Arc::new(Owner(Arc::clone(&queue)));
        for (seat, model) in models.into_iter().enumerate() {
            let (queue, cores, ended) = (Arc::clone(&queue), Arc::clone(cores), Arc::clone(&ended));
            // Linux shows 15 bytes of it.
            let thread = thread::Builder::new().name(format!("{seat}:{name}"));
            thread.spawn(move || {
                // In this order: the model is gone before anyone hears that the lane has ended.
                let _ended = ended;
                worker::serve(&queue, seat, model, &cores, cores_of_a_row);
            })?;
        }
        Ok(Self { owner, has_ended })
    }

    /// Starts a lane for the sessions of a package, on the cores of the process.
    pub fn of_package(
        package: &Package,
        models: Vec<M>,
        settings: &LaneSettings,
        inference: &InferenceSettings,
    ) -> Result<Self, StartError> {
        let name = &package.manifest.name;
        Self::start(name, models, settings, &Cores::of_process(), inference.cores_of_a_row())
    }

    /// The model's name.
    pub fn name(&self) -> &Arc<str> {
        &self.owner.0.name
    }

    /// Queues `work`; never blocks. It is told how it ended, always, unless it was cancelled.
    pub fn submit(&self, call: Call, work: impl Work<M> + 'static) -> Result<(), SubmitError> {
        self.owner.0.submit(call, Box::new(work))
    }

    /// Predicts what work takes that `call` may ask for: it has `left` to compute, in rows of `weight`.
    ///
    /// An idle lane that seems too slow for it measures again, at most every ten seconds: if whoever asks goes away for what it hears, the
    /// cost would otherwise never be corrected.
    pub fn predict(&self, call: Call, left: Left, weight: impl Into<Weight>) -> Prediction {
        self.owner.0.predict(call, left, weight.into())
    }

    /// Computes one row. A caller that drops the future cancels it, unless it is running.
    pub fn run(
        &self,
        call: Call,
        row: M::Row,
    ) -> impl Future<Output = Result<Computed<M::Output>, RunError>> + Send + use<M> {
        let (single, reply) = Single::new(row);
        let submitted = self.submit(call, single);
        async move {
            submitted?;
            Ok(reply.await.unwrap_or(Err(Failure::LaneGone))?)
        }
    }

    /// What the lane has done and holds now.
    pub fn stats(&self) -> Stats {
        self.owner.0.stats()
    }

    /// Whether the lane does its work, for the health of its service.
    pub fn check(&self) -> Result<(), Trouble> {
        self.owner.0.check()
    }

    /// Takes nothing new from now on; what was admitted is finished.
    pub fn begin_shutdown(&self) {
        self.owner.0.close();
    }

    /// Takes nothing new, and waits until everything admitted has ended and the model is dropped.
    pub async fn shutdown(&self) {
        self.begin_shutdown();
        // An error means that the sender is gone, and all threads with it.
        let _ = self.has_ended.clone().wait_for(|ended| *ended).await;
    }

    /// For a server whose calls are over or cut off: takes nothing new, and waits for the rows that may still be running, a second at
    /// most. One that takes longer runs until the process ends.
    pub async fn end(&self) {
        let _ = tokio::time::timeout(LAST_ROWS, self.shutdown()).await;
    }
}

impl<M: RowModel> Clone for Lane<M> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), has_ended: self.has_ended.clone() }
    }
}

impl<M: RowModel> std::fmt::Debug for Lane<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("name", self.name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Says that a lane has ended once its last thread has.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}
