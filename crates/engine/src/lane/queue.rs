//! The state of a lane: its jobs, whose turn it is, what was done.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Span, debug, warn};

use super::cost::Cost;
use super::{Call, LaneSettings, RowModel, SubmitError, Trouble};
use crate::metrics::Outcome;
use crate::policy::{Job, Policy, PolicySettings, Seconds};
use crate::work::{Failure, Next, Outlook, Timings, Work};

/// What a lane has done since it started, and what it holds now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Jobs of which a row was started.
    pub active: usize,
    /// Jobs of which no row was started.
    pub waiting: usize,
    /// Rows that are running.
    pub running: usize,
    /// Seconds since the oldest job was submitted.
    pub oldest_seconds: f64,
    /// Predicted seconds until all jobs are done.
    pub backlog_seconds: f64,
    /// Rows computed.
    pub rows: u64,
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
    /// Seconds that jobs that ended had waited, summed.
    pub queue_seconds: f64,
    /// Seconds that sessions spent in rows, summed.
    pub model_seconds: f64,
    /// Seconds that the lane's threads spent in anything else, summed.
    pub overhead_seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Draining,
    Gone,
}

/// A job. Beside it, at the same place of another list, is what the policy knows of it.
struct Entry<M: RowModel> {
    /// None while a thread prepares its next step.
    work: Option<Box<dyn Work<M>>>,
    /// Whether its first step was prepared.
    is_prepared: bool,
    /// What was left when its current step began.
    outlook: Outlook,
    /// Rows of its current step that were not started.
    rows: VecDeque<M::Row>,
    /// Of the rows that were.
    outputs: Vec<Option<M::Output>>,
    running: usize,
    /// Why it will end once its running rows have, if it will.
    ending: Option<Ending>,
    span: Span,
    submitted: Instant,
    /// Whether a row of it was started.
    has_started: bool,
    /// Since when rows of it have been running.
    busy_since: Option<Instant>,
    rows_done: u64,
    timings: Timings,
}

#[derive(Debug, Clone, PartialEq)]
enum Ending {
    Cancelled,
    Failed(Failure),
}

impl<M: RowModel> Entry<M> {
    fn steps(&self) -> usize {
        self.outlook.steps_taken + 1 + self.outlook.later_steps
    }

    /// What the policy is to know of it, given what a row costs.
    fn predict(&self, job: &mut Job, cost: &Cost, sessions: usize) {
        let Outlook { rows, later_steps, later_rows, weight, .. } = self.outlook;
        let row = cost.row(weight);
        let to_start = if self.is_prepared && self.work.is_some() { self.rows.len() } else { rows };
        let mean_rows = later_rows as f64 / later_steps.max(1) as f64;
        let side_by_side = |rows: f64| (rows / sessions as f64).ceil();
        job.row = row;
        job.work_left = row * (to_start + later_rows) as f64;
        job.alone_left = row * (side_by_side(to_start as f64) + later_steps as f64 * side_by_side(mean_rows));
        job.is_ready = self.is_ready();
    }

    /// Whether a thread has something to do for it.
    fn is_ready(&self) -> bool {
        let has_rows = !self.is_prepared || !self.rows.is_empty();
        self.ending.is_none() && self.work.is_some() && has_rows
    }
}

/// What a thread is to do next.
pub(super) enum Task<M: RowModel> {
    /// Ask for the rows of a job's first step.
    Prepare { id: u64, work: Box<dyn Work<M>>, span: Span },
    /// Compute a row.
    Row { id: u64, index: usize, row: M::Row, span: Span },
}

/// A step whose rows are all done.
pub(super) struct Step<M: RowModel> {
    pub(super) work: Box<dyn Work<M>>,
    pub(super) outputs: Vec<M::Output>,
}

/// Jobs that ended, to be told so once the lock is free.
type Endings<M> = Vec<(Box<dyn Work<M>>, Result<Timings, Failure>)>;

struct State<M: RowModel> {
    phase: Phase,
    policy: Policy,
    jobs: Vec<Job>,
    entries: Vec<Entry<M>>,
    next_id: u64,
    cost: Cost,
    /// When each thread began the row that it computes.
    running_since: Vec<Option<Instant>>,
    stats: Stats,
}

pub(crate) struct Queue<M: RowModel> {
    pub(crate) name: Arc<str>,
    sessions: usize,
    settings: LaneSettings,
    /// Time 0 of the policy.
    epoch: Instant,
    state: Mutex<State<M>>,
    changed: Condvar,
}

impl<M: RowModel> Queue<M> {
    pub(super) fn new(name: &str, sessions: usize, settings: LaneSettings) -> Self {
        let state = State {
            phase: Phase::Open,
            policy: Policy::new(PolicySettings::new(sessions)),
            jobs: Vec::new(),
            entries: Vec::new(),
            next_id: 0,
            cost: Cost::default(),
            running_since: vec![None; sessions],
            stats: Stats::default(),
        };
        Self {
            name: name.into(),
            sessions,
            settings,
            epoch: Instant::now(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn seconds(&self, at: Instant) -> Seconds {
        at.saturating_duration_since(self.epoch).as_secs_f64()
    }

    pub(super) fn submit(&self, call: Call, work: Box<dyn Work<M>>) -> Result<(), SubmitError> {
        let now = Instant::now();
        let outlook = work.outlook();
        let entry = Entry {
            work: Some(work),
            is_prepared: false,
            outlook,
            rows: VecDeque::new(),
            outputs: Vec::new(),
            running: 0,
            ending: None,
            span: Span::current(),
            submitted: now,
            has_started: false,
            busy_since: None,
            rows_done: 0,
            timings: Timings::default(),
        };
        let mut ended = Vec::new();
        let outcome = self.lock().admit(self, call, entry, now, &mut ended);
        tell(ended);
        self.changed.notify_one();
        outcome
    }

    /// Waits until a row can be started; false if none ever will be.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.phase == Phase::Gone {
                return false;
            }
            if state.entries.iter().any(Entry::is_ready) {
                return true;
            }
            if state.phase == Phase::Draining && state.entries.is_empty() {
                // The other threads may be waiting as well.
                self.changed.notify_all();
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what nobody waits for or what would be late, and chooses what the thread `seat` does next, if there still is something.
    pub(super) fn choose(&self, seat: usize) -> Option<Task<M>> {
        let now = Instant::now();
        let mut ended = Vec::new();
        let task = {
            let mut state = self.lock();
            state.sweep(self, now, &mut ended);
            state.start(self, seat, now)
        };
        tell(ended);
        task
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

    /// Notes that a row is done. If it was the last of its step, the step is to be ended.
    pub(super) fn done(
        &self,
        seat: usize,
        (id, index): (u64, usize),
        outcome: Result<M::Output, Failure>,
        computing: Duration,
        with_wait: Duration,
    ) -> Option<Step<M>> {
        let mut ended = Vec::new();
        let step = self.lock().done(self, seat, (id, index), outcome, computing, with_wait, &mut ended);
        tell(ended);
        // A job that ended may have been the last one of a lane that is drained.
        self.changed.notify_all();
        step
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
        if seconds > self.settings.stall_seconds {
            return Err(Trouble::Stalled { model: Arc::clone(&self.name), seconds });
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut state = self.lock();
        state.predict(self.sessions);
        let active = state.entries.iter().filter(|entry| entry.has_started).count();
        let oldest = state.entries.iter().map(|entry| entry.submitted.elapsed()).max().unwrap_or_default();
        let work: Seconds = state.jobs.iter().map(|job| job.work_left).sum();
        Stats {
            active,
            waiting: state.entries.len() - active,
            running: state.running_since.iter().flatten().count(),
            oldest_seconds: oldest.as_secs_f64(),
            backlog_seconds: work / self.sessions as f64,
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

impl<M: RowModel> State<M> {
    fn admit(
        &mut self,
        queue: &Queue<M>,
        call: Call,
        entry: Entry<M>,
        now: Instant,
        ended: &mut Endings<M>,
    ) -> Result<(), SubmitError> {
        match self.phase {
            Phase::Open => {}
            Phase::Draining => return Err(SubmitError::ShuttingDown),
            Phase::Gone => return Err(SubmitError::Gone),
        }
        self.sweep(queue, now, ended);
        let mut job = Job {
            id: self.next_id,
            caller: call.caller,
            class: call.class,
            arrived: queue.seconds(now),
            deadline: call.deadline.map(|deadline| queue.seconds(deadline)),
            work_left: 0.0,
            alone_left: 0.0,
            row: 0.0,
            is_ready: true,
        };
        let is_idle = self.entries.is_empty();
        if is_idle {
            self.cost.rest();
        }
        entry.predict(&mut job, &self.cost, queue.sessions);
        let (limit, seconds) = (queue.settings.max_jobs, queue.seconds(now));
        let outcome = if self.entries.len() >= limit {
            Err(SubmitError::Full { jobs: self.entries.len(), limit })
        } else {
            // An idle lane begins whatever is not late yet, or a cost that was measured too high would never be measured again. It is
            // given up after some rows if they show that there is no hope.
            let may_try = is_idle && job.deadline.is_none_or(|due| due > seconds);
            let asked = if may_try { Job { deadline: None, ..job } } else { job };
            self.policy.admit(&self.jobs, &asked, seconds).map_err(SubmitError::from)
        };
        if let Err(error) = outcome {
            self.stats.refused += 1;
            Outcome::Refused.count(&queue.name);
            debug!(model = %queue.name, %error, "job not admitted");
            return Err(error);
        }
        self.next_id += 1;
        self.jobs.push(job);
        self.entries.push(entry);
        Ok(())
    }

    /// Brings what the policy knows up to date.
    fn predict(&mut self, sessions: usize) {
        for (entry, job) in self.entries.iter().zip(&mut self.jobs) {
            entry.predict(job, &self.cost, sessions);
        }
    }

    /// Ends the jobs that nobody waits for, and those that would be late; the ones that have rows running once these are done.
    fn sweep(&mut self, queue: &Queue<M>, now: Instant, ended: &mut Endings<M>) {
        self.predict(queue.sessions);
        let seconds = queue.seconds(now);
        for place in (0..self.entries.len()).rev() {
            let (entry, job) = (&mut self.entries[place], &self.jobs[place]);
            let Some(work) = &entry.work else { continue };
            let is_hopeless = || self.cost.is_sure() && entry.running == 0 && job.is_hopeless(seconds);
            let is_late = || job.deadline.is_some_and(|due| due <= seconds) || is_hopeless();
            if entry.ending.is_none() {
                if work.is_cancelled() {
                    entry.ending = Some(Ending::Cancelled);
                } else if is_late() {
                    let (step, steps) = (entry.outlook.steps_taken, entry.steps());
                    entry.ending = Some(Ending::Failed(Failure::DeadlineExceeded { step, steps }));
                }
            }
            if entry.ending.is_some() && entry.running == 0 {
                self.remove(queue, place, ended);
            }
        }
    }

    fn start(&mut self, queue: &Queue<M>, seat: usize, now: Instant) -> Option<Task<M>> {
        let place = self.policy.choose(&self.jobs, queue.seconds(now))?;
        let (entry, job) = (&mut self.entries[place], &mut self.jobs[place]);
        if !entry.is_prepared {
            let work = entry.work.take()?;
            return Some(Task::Prepare { id: job.id, work, span: entry.span.clone() });
        }
        let row = entry.rows.pop_front()?;
        self.policy.charge(job);
        let index = entry.outputs.len() - entry.rows.len() - 1;
        entry.running += 1;
        entry.has_started = true;
        entry.busy_since.get_or_insert(now);
        self.running_since[seat] = Some(now);
        entry.predict(job, &self.cost, queue.sessions);
        Some(Task::Row { id: job.id, index, row, span: entry.span.clone() })
    }

    /// The place of a job. It stays while one of its rows is running or its step is prepared, unless the lane was abandoned.
    fn place(&self, id: u64) -> Option<usize> {
        self.jobs.iter().position(|job| job.id == id)
    }

    fn prepared(
        &mut self,
        queue: &Queue<M>,
        id: u64,
        work: Box<dyn Work<M>>,
        outcome: Result<Option<Vec<M::Row>>, Failure>,
        time: Duration,
        ended: &mut Endings<M>,
    ) {
        self.cost.note_overhead(time);
        self.stats.overhead_seconds += time.as_secs_f64();
        let Some(place) = self.place(id) else {
            ended.push((work, Err(Failure::LaneGone)));
            return;
        };
        let entry = &mut self.entries[place];
        entry.timings.overhead += time;
        entry.is_prepared = true;
        entry.outlook = work.outlook();
        entry.work = Some(work);
        match outcome {
            Ok(Some(rows)) => {
                entry.outputs = rows.iter().map(|_| None).collect();
                entry.rows = rows.into();
            }
            // The result is there.
            Ok(None) => self.remove(queue, place, ended),
            Err(failure) => {
                entry.ending = Some(Ending::Failed(failure));
                self.remove(queue, place, ended);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what there is to say of a row")]
    fn done(
        &mut self,
        queue: &Queue<M>,
        seat: usize,
        (id, index): (u64, usize),
        outcome: Result<M::Output, Failure>,
        computing: Duration,
        with_wait: Duration,
        ended: &mut Endings<M>,
    ) -> Option<Step<M>> {
        self.running_since[seat] = None;
        self.stats.rows += 1;
        self.stats.model_seconds += computing.as_secs_f64();
        let place = self.place(id)?;
        let entry = &mut self.entries[place];
        self.cost.note_row(with_wait, entry.outlook.weight);
        entry.running -= 1;
        entry.rows_done += 1;
        match outcome {
            Ok(output) => entry.outputs[index] = Some(output),
            Err(failure) => {
                entry.ending.get_or_insert(Ending::Failed(failure));
            }
        }
        if entry.running > 0 {
            return None;
        }
        entry.timings.model += entry.busy_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        if entry.ending.is_some() {
            self.remove(queue, place, ended);
            return None;
        }
        if !entry.rows.is_empty() {
            return None;
        }
        let outputs = mem::take(&mut entry.outputs).into_iter().flatten().collect();
        entry.work.take().map(|work| Step { work, outputs })
    }

    /// Ends the job at `place`.
    fn remove(&mut self, queue: &Queue<M>, place: usize, ended: &mut Endings<M>) {
        let entry = self.entries.swap_remove(place);
        self.jobs.swap_remove(place);
        let Entry { work, ending, span, submitted, mut timings, rows_done, .. } = entry;
        timings.queued = submitted.elapsed().saturating_sub(timings.computing());
        self.stats.queue_seconds += timings.queued.as_secs_f64();
        let outcome = match &ending {
            None => {
                self.stats.finished += 1;
                debug!(parent: &span, ?timings, "job finished");
                Outcome::Finished
            }
            Some(Ending::Cancelled) => {
                self.stats.cancelled += 1;
                debug!(parent: &span, rows_done, "job cancelled");
                Outcome::Cancelled
            }
            Some(Ending::Failed(failure @ Failure::DeadlineExceeded { .. })) => {
                self.stats.expired += 1;
                debug!(parent: &span, %failure, "job expired");
                Outcome::Expired
            }
            Some(Ending::Failed(failure)) => {
                self.stats.failed += 1;
                warn!(parent: &span, %failure, "job failed");
                Outcome::Failed
            }
        };
        outcome.count(&queue.name);
        if matches!(outcome, Outcome::Cancelled | Outcome::Expired) {
            self.stats.wasted_rows += rows_done;
        }
        let Some(work) = work else { return };
        match ending {
            None => ended.push((work, Ok(timings))),
            Some(Ending::Failed(failure)) => ended.push((work, Err(failure))),
            Some(Ending::Cancelled) => {}
        }
    }
}

/// Ends a step and asks for the rows of the next; `None` if there is none.
pub(super) fn advance<M: RowModel>(
    work: &mut dyn Work<M>,
    outputs: Vec<M::Output>,
) -> Result<Option<Vec<M::Row>>, Failure> {
    match work.advance(outputs)? {
        Next::Step => Ok(Some(work.rows())),
        Next::Done => Ok(None),
    }
}
