//! The jobs of a lane: what is known of each, which rows share a pass, how each ends.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use tracing::{Span, debug, warn};

use super::calibration::Calibration;
use super::prediction::Use;
use super::queue::{Phase, Queue, Stats};
use super::{Call, RowModel, SubmitError};
use crate::cost::Cost;
use crate::metrics::Outcome;
use crate::policy::{Job, Left, Policy, PolicySettings, Seconds};
use crate::work::{Failure, Next, Outlook, Timings, Work};

/// A job whose first rows are to be asked for.
pub(super) struct Preparation<M: RowModel> {
    pub(super) id: u64,
    pub(super) work: Box<dyn Work<M>>,
    pub(super) span: Span,
}

/// The rows of a forward pass: which they are, and beside that, at the same places, the rows themselves.
pub(super) struct Pass<M: RowModel> {
    pub(super) claims: Vec<Claim>,
    pub(super) rows: Vec<M::Row>,
}

impl<M: RowModel> Pass<M> {
    pub(super) fn new() -> Self {
        Self { claims: Vec::new(), rows: Vec::new() }
    }

    /// Whether `row` may join those that it has.
    fn takes(&self, row: &M::Row) -> bool {
        self.rows.first().is_none_or(|first| M::can_share(first, row))
    }
}

/// A row of a pass.
pub(super) struct Claim {
    /// Its job.
    pub(super) id: u64,
    /// Its place in the job's step.
    pub(super) index: usize,
    /// The job's span.
    pub(super) span: Span,
}

/// How long a pass took.
#[derive(Clone, Copy)]
pub(super) struct PassTime {
    /// In the model.
    pub(super) computing: Duration,
    /// For its cores.
    pub(super) waiting: Duration,
}

/// A step whose rows are all done.
pub(super) struct Step<M: RowModel> {
    pub(super) id: u64,
    pub(super) span: Span,
    pub(super) work: Box<dyn Work<M>>,
    pub(super) outputs: Vec<M::Output>,
}

/// Jobs that ended, to be told so once the lock is free.
pub(super) type Endings<M> = Vec<(Box<dyn Work<M>>, Result<Timings, Failure>)>;

/// What the lock of a queue guards.
pub(super) struct State<M: RowModel> {
    pub(super) phase: Phase,
    policy: Policy,
    pub(super) jobs: Vec<Job>,
    pub(super) entries: Vec<Entry<M>>,
    next_id: u64,
    pub(super) cost: Cost,
    pub(super) calibration: Calibration,
    /// When each thread began the pass that it computes.
    pub(super) running_since: Vec<Option<Instant>>,
    pub(super) stats: Stats,
}

/// A job. Beside it, at the same place of another list, is what the policy knows of it.
pub(super) struct Entry<M: RowModel> {
    /// None while a thread prepares its next step.
    pub(super) work: Option<Box<dyn Work<M>>>,
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
    /// The process that plans it; 0 if none does.
    origin: u64,
    pub(super) submitted: Instant,
    /// Whether a row of it was started.
    pub(super) has_started: bool,
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
    pub(super) fn new(work: Box<dyn Work<M>>, origin: u64, submitted: Instant) -> Self {
        let outlook = work.outlook();
        Self {
            work: Some(work),
            is_prepared: false,
            outlook,
            rows: VecDeque::new(),
            outputs: Vec::new(),
            running: 0,
            ending: None,
            span: Span::current(),
            origin,
            submitted,
            has_started: false,
            busy_since: None,
            rows_done: 0,
            timings: Timings::default(),
        }
    }

    fn steps(&self) -> usize {
        self.outlook.steps_taken + 1 + self.outlook.later_steps
    }

    /// What the policy is to know of it, given what a pass costs and how many rows the lane computes at a time.
    fn predict(&self, job: &mut Job, cost: &Cost, slots: usize) {
        let Outlook { rows, later_steps, later_rows, weight, .. } = self.outlook;
        let rows = if self.is_prepared && self.work.is_some() { self.rows.len() } else { rows };
        job.predict(Left { rows, later_steps, later_rows }, weight, cost, slots);
        job.is_ready = self.is_ready();
    }

    /// Whether a thread has something to do for it.
    pub(super) fn is_ready(&self) -> bool {
        let has_rows = !self.is_prepared || !self.rows.is_empty();
        self.ending.is_none() && self.work.is_some() && has_rows
    }
}

impl<M: RowModel> State<M> {
    /// The state of a lane that computes `slots` rows at a time on `sessions`.
    pub(super) fn new(sessions: usize, slots: usize, cost: Cost, calibration: Calibration) -> Self {
        Self {
            phase: Phase::Open,
            policy: Policy::new(PolicySettings::new(slots)),
            jobs: Vec::new(),
            entries: Vec::new(),
            next_id: 0,
            cost,
            calibration,
            running_since: vec![None; sessions],
            stats: Stats::default(),
        }
    }

    pub(super) fn admit(
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
            alone_at_best: 0.0,
            row: 0.0,
            is_ready: true,
        };
        let seconds = queue.seconds(now);
        if self.entries.is_empty() {
            self.cost.wake(seconds);
        }
        entry.predict(&mut job, &self.cost, queue.slots());
        let limit = queue.max_jobs;
        let outcome = if self.entries.len() >= limit {
            Err(SubmitError::Full { jobs: self.entries.len(), limit })
        } else {
            self.policy.admit_or_try(&self.jobs, &job, seconds).map_err(SubmitError::from)
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
    pub(super) fn predict(&mut self, slots: usize) {
        for (entry, job) in self.entries.iter().zip(&mut self.jobs) {
            entry.predict(job, &self.cost, slots);
        }
    }

    /// The work that is left of what others than `origin` plan, as seconds of one unit of what the lane computes with.
    pub(super) fn work_of_others(&self, origin: u64, used: Use) -> Seconds {
        let of = |(entry, job): (&Entry<M>, &Job)| {
            let rows = if job.row > 0.0 { job.work_left / job.row } else { 0.0 };
            used.unit_seconds(rows, self.cost.computing(entry.outlook.weight))
        };
        let is_others = |(entry, _): &(&Entry<M>, &Job)| entry.origin == 0 || entry.origin != origin;
        self.entries.iter().zip(&self.jobs).filter(is_others).map(of).sum()
    }

    /// Ends the jobs that nobody waits for, and those that would be late; the ones that have rows running once these are done.
    pub(super) fn sweep(&mut self, queue: &Queue<M>, now: Instant, ended: &mut Endings<M>) {
        self.predict(queue.slots());
        let seconds = queue.seconds(now);
        for place in (0..self.entries.len()).rev() {
            let (entry, job) = (&mut self.entries[place], &self.jobs[place]);
            let Some(work) = &entry.work else { continue };
            let is_given_up = || entry.running == 0 && job.is_beyond_hope(seconds);
            let is_late = || job.deadline.is_some_and(|due| due <= seconds) || is_given_up();
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

    /// Puts rows into `pass` until it is full or no row that may share it is ready. Stops at a job whose rows have to be asked for first.
    pub(super) fn fill(
        &mut self,
        queue: &Queue<M>,
        seat: usize,
        now: Instant,
        pass: &mut Pass<M>,
    ) -> Option<Preparation<M>> {
        while pass.rows.len() < queue.batch {
            let place = self.next_for(pass, queue.seconds(now))?;
            let (entry, job) = (&mut self.entries[place], &mut self.jobs[place]);
            if !entry.is_prepared {
                let work = entry.work.take()?;
                return Some(Preparation { id: job.id, work, span: entry.span.clone() });
            }
            let row = entry.rows.pop_front()?;
            self.policy.charge(job);
            let index = entry.outputs.len() - entry.rows.len() - 1;
            entry.running += 1;
            entry.has_started = true;
            entry.busy_since.get_or_insert(now);
            self.running_since[seat].get_or_insert(now);
            entry.predict(job, &self.cost, queue.slots());
            pass.claims.push(Claim { id: job.id, index, span: entry.span.clone() });
            pass.rows.push(row);
        }
        None
    }

    /// The place of the job whose row is next, of those that may share `pass`. What rows a job has that is not prepared is not known.
    fn next_for(&self, pass: &Pass<M>, now: Seconds) -> Option<usize> {
        if pass.rows.is_empty() {
            return self.policy.choose(&self.jobs, now);
        }
        let fits = |entry: &Entry<M>| entry.rows.front().is_none_or(|row| pass.takes(row));
        let only_fitting =
            |(entry, job): (&Entry<M>, &Job)| Job { is_ready: job.is_ready && fits(entry), ..*job };
        let jobs: Vec<Job> = self.entries.iter().zip(&self.jobs).map(only_fitting).collect();
        self.policy.choose(&jobs, now)
    }

    /// The place of a job. It stays while one of its rows is running or its step is prepared, unless the lane was abandoned.
    fn place(&self, id: u64) -> Option<usize> {
        self.jobs.iter().position(|job| job.id == id)
    }

    pub(super) fn prepared(
        &mut self,
        queue: &Queue<M>,
        id: u64,
        work: Box<dyn Work<M>>,
        outcome: Result<Option<Vec<M::Row>>, Failure>,
        time: Duration,
        ended: &mut Endings<M>,
    ) {
        self.cost.note_overhead(time.as_secs_f64());
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

    /// Notes that a pass is done: `outcomes` are those of its rows. Gives the steps that it completed.
    pub(super) fn done(
        &mut self,
        queue: &Queue<M>,
        seat: usize,
        claims: &[Claim],
        outcomes: Vec<Result<M::Output, Failure>>,
        time: PassTime,
        ended: &mut Endings<M>,
    ) -> Vec<Step<M>> {
        self.running_since[seat] = None;
        self.stats.rows += claims.len() as u64;
        self.stats.passes += 1;
        // Rows that share a pass are of equal weight.
        if let Some(place) = claims.first().and_then(|claim| self.place(claim.id)) {
            let weight = self.entries[place].outlook.weight;
            let (computing, waiting) = (time.computing.as_secs_f64(), time.waiting.as_secs_f64());
            self.cost.note_pass(weight, computing, waiting, queue.seconds(Instant::now()));
        }
        let rows = claims.iter().zip(outcomes);
        rows.filter_map(|(claim, outcome)| self.row_done(queue, claim, outcome, ended)).collect()
    }

    /// Notes that a row is done. If it was the last of its step, the step is to be ended.
    fn row_done(
        &mut self,
        queue: &Queue<M>,
        claim: &Claim,
        outcome: Result<M::Output, Failure>,
        ended: &mut Endings<M>,
    ) -> Option<Step<M>> {
        let place = self.place(claim.id)?;
        let entry = &mut self.entries[place];
        entry.running -= 1;
        entry.rows_done += 1;
        match outcome {
            Ok(output) => entry.outputs[claim.index] = Some(output),
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
        entry.work.take().map(|work| Step { id: claim.id, span: claim.span.clone(), work, outputs })
    }

    /// Ends the job at `place`.
    fn remove(&mut self, queue: &Queue<M>, place: usize, ended: &mut Endings<M>) {
        let entry = self.entries.swap_remove(place);
        self.jobs.swap_remove(place);
        let Entry { work, ending, span, submitted, mut timings, rows_done, .. } = entry;
        timings.rows = rows_done;
        timings.queued = submitted.elapsed().saturating_sub(timings.computing());
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
