//! The bounded queue of a lane, which its callers and its threads share.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::calibration::Calibration;
use super::jobs::{Endings, Entry, Pass, PassTime, Preparation, State, Step};
use super::prediction::{Prediction, Use};
use super::{Call, LaneSettings, RowModel, SubmitError, Trouble};
use crate::cores::Cores;
use crate::cost::{Cost, Weight};
use crate::policy::{Left, Seconds};
use crate::work::{Failure, Work};

/// What a lane has done since it started, and what it holds now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Jobs of which a row was started.
    pub active: usize,
    /// Jobs of which no row was started.
    pub waiting: usize,
    /// Forward passes that are running.
    pub running: usize,
    /// Seconds since the oldest job was submitted.
    pub oldest_seconds: f64,
    /// Predicted seconds until all jobs are done.
    pub backlog_seconds: f64,
    /// Predicted seconds of a forward pass over rows of the model's own shape, with its wait for a core.
    pub pass_seconds: f64,
    /// Rows computed.
    pub rows: u64,
    /// Forward passes that computed them.
    pub passes: u64,
    /// Rows computed for jobs that were cancelled or expired.
    pub wasted_rows: u64,
    /// Jobs that ended with a result.
    pub finished: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs whose deadline passed, or could no longer be met.
    pub expired: u64,
    /// Jobs whose caller went away before the end.
    pub cancelled: u64,
    /// Jobs that were not admitted.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Draining,
    Gone,
}

/// The share of the time that is left beyond which a lane that is idle makes sure of its costs.
const SLOW: f64 = 0.25;

/// What a thread of a lane does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// A row can be started.
    Serve,
    /// There is no job, and the session was not calibrated yet.
    Calibrate,
    /// There will be nothing to do any more.
    End,
}

pub(crate) struct Queue<M: RowModel> {
    pub(crate) name: Arc<str>,
    sessions: usize,
    /// Rows that a forward pass has room for.
    pub(super) batch: usize,
    /// The weight of a row of the model's own shape.
    own_weight: Weight,
    /// Of each of its typical rows.
    typical: Vec<Weight>,
    used: Use,
    /// CPU cores that a session keeps busy; none on a GPU.
    cores_of_a_pass: usize,
    pub(super) max_jobs: usize,
    stall_seconds: f64,
    /// Time 0 of the policy.
    epoch: Instant,
    state: Mutex<State<M>>,
    changed: Condvar,
}

impl<M: RowModel> Queue<M> {
    /// The queue of a lane with a thread for each of `models`.
    pub(super) fn new(
        name: &str,
        models: &[M],
        settings: &LaneSettings,
        (cores, cores_of_a_pass): (&Cores, usize),
    ) -> Self {
        let sessions = models.len();
        let batch = models.iter().map(M::batch).min().unwrap_or(1).max(1);
        let typical = models.first().map(M::typical_rows).unwrap_or_default();
        let typical: Vec<Weight> = typical.iter().map(M::weight).collect();
        let weight = typical.first().copied().unwrap_or(Weight::from(1.0));
        let (cost, seconds) = match settings.row_seconds.get(name) {
            Some(seconds) => (Cost::set(*seconds, weight), 0.0),
            None => (Cost::default(), if typical.is_empty() { 0.0 } else { settings.calibration_seconds }),
        };
        let calibration = Calibration::new(sessions, typical.len(), seconds);
        Self {
            name: name.into(),
            sessions,
            batch,
            own_weight: weight,
            typical,
            used: Use::new(cores, cores_of_a_pass, sessions, batch),
            cores_of_a_pass,
            max_jobs: settings.max_jobs,
            stall_seconds: settings.stall_seconds,
            epoch: Instant::now(),
            state: Mutex::new(State::new(sessions, sessions * batch, cost, calibration)),
            changed: Condvar::new(),
        }
    }

    /// Rows that the lane computes at a time.
    pub(super) fn slots(&self) -> usize {
        self.sessions * self.batch
    }

    pub(super) fn seconds(&self, at: Instant) -> Seconds {
        at.saturating_duration_since(self.epoch).as_secs_f64()
    }

    pub(super) fn submit(&self, call: Call, work: Box<dyn Work<M>>) -> Result<(), SubmitError> {
        let now = Instant::now();
        let entry = Entry::new(work, call.origin, now);
        let mut ended = Vec::new();
        let outcome = self.lock().admit(self, call, entry, now, &mut ended);
        tell(ended);
        self.changed.notify_one();
        outcome
    }

    /// Waits until the thread `seat` has something to do.
    pub(super) fn wait(&self, seat: usize) -> Turn {
        let mut state = self.lock();
        loop {
            if state.phase == Phase::Gone {
                return Turn::End;
            }
            if state.entries.iter().any(Entry::is_ready) {
                return Turn::Serve;
            }
            if state.phase == Phase::Draining && state.entries.is_empty() {
                // The other threads may be waiting as well.
                self.changed.notify_all();
                return Turn::End;
            }
            if state.entries.is_empty() && state.calibration.has_pass(seat) {
                return Turn::Calibrate;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Which of the model's typical rows the thread `seat` computes next to calibrate its session.
    pub(super) fn next_calibration(&self, seat: usize) -> usize {
        self.lock().calibration.next_row(seat)
    }

    /// Notes that it computes it.
    pub(super) fn begin_calibration(&self, seat: usize) -> Instant {
        let now = Instant::now();
        self.lock().running_since[seat] = Some(now);
        now
    }

    /// Notes how long that row, of `weight`, took.
    pub(super) fn calibrated(&self, seat: usize, weight: Weight, outcome: Result<Duration, Failure>) {
        let mut state = self.lock();
        state.running_since[seat] = None;
        let time = match outcome {
            Ok(time) => time.as_secs_f64(),
            Err(failure) => {
                state.calibration.end();
                warn!(model = %self.name, %failure, "the cost of a pass is not known before the first request");
                return;
            }
        };
        state.cost.note_calibration(weight, time, self.seconds(Instant::now()));
        if state.calibration.note(seat, time) {
            let milliseconds = 1e3 * state.cost.pass(self.own_weight);
            info!(model = %self.name, sessions = self.sessions, cores = self.cores_of_a_pass, batch = self.batch, milliseconds, "a forward pass takes");
        }
    }

    /// Drops what nobody waits for or what would be late, and fills the pass of the thread `seat` with rows. If a job has to be prepared
    /// for that, it is to be asked again afterwards; else the pass is ready, or there is nothing to do if it has no rows.
    pub(super) fn fill(&self, seat: usize, pass: &mut Pass<M>) -> Option<Preparation<M>> {
        let now = Instant::now();
        let mut ended = Vec::new();
        let preparation = {
            let mut state = self.lock();
            state.sweep(self, now, &mut ended);
            state.fill(self, seat, now, pass)
        };
        tell(ended);
        preparation
    }

    /// Notes that a job's next step was prepared, or that preparing it failed.
    pub(super) fn prepared(
        &self,
        id: u64,
        work: Box<dyn Work<M>>,
        outcome: Result<Option<Vec<M::Row>>, Failure>,
        time: Duration,
    ) {
        let mut ended = Vec::new();
        self.lock().prepared(self, id, work, outcome, time, &mut ended);
        tell(ended);
        self.changed.notify_all();
    }

    /// Notes that the rows of a pass are done. Gives the steps that are to be ended, because these were their last rows.
    pub(super) fn done(
        &self,
        seat: usize,
        pass: &Pass<M>,
        outcomes: Vec<Result<M::Output, Failure>>,
        time: PassTime,
    ) -> Vec<Step<M>> {
        let mut ended = Vec::new();
        let steps = self.lock().done(self, seat, &pass.claims, outcomes, time, &mut ended);
        tell(ended);
        // A job that ended may have been the last one of a lane that is drained.
        self.changed.notify_all();
        steps
    }

    /// Takes nothing new; what was admitted is still done.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Nothing will be done any more: everyone is told.
    pub(super) fn abandon(&self) {
        let entries = {
            let mut state = self.lock();
            state.phase = Phase::Gone;
            state.jobs.clear();
            mem::take(&mut state.entries)
        };
        let works = entries.into_iter().filter_map(|entry| entry.work);
        tell(works.map(|work| (work, Err(Failure::LaneGone))).collect());
        self.changed.notify_all();
    }

    pub(super) fn check(&self) -> Result<(), Trouble> {
        let state = self.lock();
        if state.phase == Phase::Gone {
            return Err(Trouble::Died { model: Arc::clone(&self.name) });
        }
        let longest = state.running_since.iter().flatten().min();
        let seconds = longest.map_or(0.0, |since| since.elapsed().as_secs_f64());
        if seconds > self.stall_seconds {
            return Err(Trouble::Stalled { model: Arc::clone(&self.name), seconds });
        }
        Ok(())
    }

    pub(super) fn predict(&self, call: Call, left: Left, weight: Weight) -> Prediction {
        let now = Instant::now();
        let mut state = self.lock();
        if state.entries.is_empty() {
            state.cost.wake(self.seconds(now));
        }
        let of_others = state.work_of_others(call.origin, self.used);
        let prediction = self.used.predict(left, state.cost.computing(weight), self.slots(), of_others);
        let seems_slow = call.deadline.is_some_and(|deadline| {
            prediction.seconds > SLOW * deadline.saturating_duration_since(now).as_secs_f64()
        });
        if seems_slow && state.entries.is_empty() && state.calibration.renew(now) {
            state.cost.doubt_all_but(&self.typical);
            drop(state);
            self.changed.notify_all();
        }
        prediction
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut state = self.lock();
        state.predict(self.slots());
        let active = state.entries.iter().filter(|entry| entry.has_started).count();
        let oldest = state.entries.iter().map(|entry| entry.submitted.elapsed()).max().unwrap_or_default();
        let work: Seconds = state.jobs.iter().map(|job| job.work_left).sum();
        Stats {
            active,
            waiting: state.entries.len() - active,
            running: state.running_since.iter().flatten().count(),
            oldest_seconds: oldest.as_secs_f64(),
            backlog_seconds: work / self.slots() as f64,
            pass_seconds: state.cost.pass(self.own_weight),
            ..state.stats
        }
    }

    /// Nothing that holds the lock leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell<M: RowModel>(ended: Endings<M>) {
    for (work, outcome) in ended {
        work.end(outcome);
    }
}
