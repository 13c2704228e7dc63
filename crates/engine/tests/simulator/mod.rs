//! A lane without models: arrivals, rows that take their time, cancels, failures; what became of each job.
//!
//! Everything follows from a seed. A [`Scheduler`] decides; jobs that ended are gone, and no free session stays idle while a job has a
//! row to start.

#![allow(dead_code, reason = "the tests and the example each use a part")]

pub(crate) mod arrivals;
pub(crate) mod machine;
pub(crate) mod rivals;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use reverie_engine::policy::{Job, Left, Policy, Seconds};

pub(crate) use arrivals::Arrival;
pub(crate) use machine::Machine;

/// What decides on a lane.
pub(crate) trait Scheduler {
    fn admit(&mut self, jobs: &[Job], newcomer: &Job, now: Seconds) -> bool;
    /// For costs that are measured.
    fn admit_or_try(&mut self, jobs: &[Job], newcomer: &Job, now: Seconds) -> bool {
        self.admit(jobs, newcomer, now)
    }
    fn choose(&mut self, jobs: &[Job], now: Seconds) -> Option<usize>;
    fn charge(&mut self, job: &Job);
    /// Whether jobs are given up before their deadline once they cannot meet it.
    fn gives_up_early(&self) -> bool {
        false
    }
}

impl Scheduler for Policy {
    fn admit(&mut self, jobs: &[Job], newcomer: &Job, now: Seconds) -> bool {
        Policy::admit(self, jobs, newcomer, now).is_ok()
    }

    fn admit_or_try(&mut self, jobs: &[Job], newcomer: &Job, now: Seconds) -> bool {
        Policy::admit_or_try(self, jobs, newcomer, now).is_ok()
    }

    fn choose(&mut self, jobs: &[Job], now: Seconds) -> Option<usize> {
        Policy::choose(self, jobs, now)
    }

    fn charge(&mut self, job: &Job) {
        Policy::charge(self, job);
    }

    fn gives_up_early(&self) -> bool {
        true
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Refused,
    Finished,
    Failed,
    Cancelled,
    Expired,
}

/// A job that ended.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) arrival: Arrival,
    pub(crate) end: End,
    pub(crate) at: Seconds,
    /// When its first row was started.
    pub(crate) started: Option<Seconds>,
    /// Rows that were started for it.
    pub(crate) rows: u32,
}

impl Record {
    pub(crate) fn seconds(&self) -> Seconds {
        self.at - self.arrival.at
    }

    pub(crate) fn is(&self, end: End) -> bool {
        self.end == end
    }
}

/// A job on its way.
struct Active {
    arrival: Arrival,
    job: Job,
    steps_left: u32,
    /// Rows of the current step that were not started.
    to_start: u32,
    running: u32,
    rows: u32,
    started: Option<Seconds>,
}

impl Active {
    fn new(id: u64, arrival: Arrival) -> Self {
        let (steps, rows) = (arrival.steps, arrival.rows_per_step);
        let job = Job {
            id,
            caller: arrival.caller,
            class: arrival.class,
            arrived: arrival.at,
            deadline: arrival.deadline.map(|seconds| arrival.at + seconds),
            work_left: 0.0,
            alone_left: 0.0,
            alone_at_best: 0.0,
            row: 0.0,
            is_ready: true,
        };
        Self { arrival, job, steps_left: steps, to_start: rows, running: 0, rows: 0, started: None }
    }

    /// Brings what is predicted up to date.
    fn predict(&mut self, machine: &Machine, slots: usize) {
        let later_steps = self.steps_left as usize - 1;
        let later_rows = later_steps * self.arrival.rows_per_step as usize;
        let left = Left { rows: self.to_start as usize, later_steps, later_rows };
        machine.predict(&mut self.job, left, &self.arrival, slots);
        self.job.is_ready = self.to_start > 0;
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Arrives(usize),
    /// A pass over rows of these jobs, which took so long.
    PassDone(Vec<u64>, Seconds),
    Cancelled(u64),
    Due(u64),
}

#[derive(Debug, PartialEq)]
struct Timed(Seconds, u64, Event);

impl Eq for Timed {}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What a lane computes with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) sessions: usize,
    /// Rows that a forward pass has room for. A pass takes as long with one row as with all.
    pub(crate) batch: usize,
}

impl Lane {
    /// Rows that it computes at a time.
    pub(crate) fn slots(self) -> usize {
        self.sessions * self.batch
    }
}

impl From<usize> for Lane {
    /// Sessions that compute one row at a time.
    fn from(sessions: usize) -> Self {
        Self { sessions, batch: 1 }
    }
}

/// Runs `arrivals` on a lane that is told what rows cost; the records are in the order of arrival.
pub(crate) fn run(
    scheduler: &mut impl Scheduler,
    lane: impl Into<Lane>,
    arrivals: &[Arrival],
) -> Vec<Record> {
    run_on(Machine::told(), scheduler, lane, arrivals)
}

/// Runs `arrivals` on a lane of `machine`.
pub(crate) fn run_on(
    mut machine: Machine,
    scheduler: &mut impl Scheduler,
    lane: impl Into<Lane>,
    arrivals: &[Arrival],
) -> Vec<Record> {
    let lane = lane.into();
    let slots = lane.slots();
    let mut events = BinaryHeap::new();
    let mut sequence = 0;
    let mut push = |events: &mut BinaryHeap<Reverse<Timed>>, at: Seconds, event: Event| {
        sequence += 1;
        events.push(Reverse(Timed(at, sequence, event)));
    };
    for (index, arrival) in arrivals.iter().enumerate() {
        push(&mut events, arrival.at, Event::Arrives(index));
    }
    let mut active: Vec<Active> = Vec::new();
    let mut records: Vec<Option<Record>> = vec![None; arrivals.len()];
    // Kept beside `active`, as the policy sees it.
    let mut jobs: Vec<Job> = Vec::new();
    let mut free = lane.sessions;

    while let Some(Reverse(Timed(now, _, event))) = events.pop() {
        match event {
            Event::Arrives(index) => {
                let arrival = arrivals[index].clone();
                let mut newcomer = Active::new(index as u64, arrival.clone());
                if jobs.is_empty() {
                    machine.wake(now);
                }
                newcomer.predict(&machine, slots);
                let is_admitted = if machine.is_measuring() {
                    scheduler.admit_or_try(&jobs, &newcomer.job, now)
                } else {
                    scheduler.admit(&jobs, &newcomer.job, now)
                };
                if is_admitted {
                    if let Some(after) = arrival.cancelled_after {
                        push(&mut events, now + after, Event::Cancelled(index as u64));
                    }
                    if let Some(deadline) = newcomer.job.deadline {
                        push(&mut events, deadline, Event::Due(index as u64));
                    }
                    jobs.push(newcomer.job);
                    active.push(newcomer);
                } else {
                    records[index] =
                        Some(Record { arrival, end: End::Refused, at: now, started: None, rows: 0 });
                }
            }
            Event::PassDone(rows, seconds) => {
                free += 1;
                machine.note_pass(seconds, now);
                for id in rows {
                    let Some(place) = place_of(&active, id) else { continue };
                    let this = &mut active[place];
                    this.running -= 1;
                    if this.arrival.fails_at_row.is_some_and(|row| this.rows >= row) {
                        end(place, End::Failed, now, &mut active, &mut jobs, &mut records);
                    } else if this.running == 0 && this.to_start == 0 {
                        if this.steps_left == 1 {
                            end(place, End::Finished, now, &mut active, &mut jobs, &mut records);
                        } else {
                            this.steps_left -= 1;
                            this.to_start = this.arrival.rows_per_step;
                            this.predict(&machine, slots);
                            jobs[place] = this.job;
                        }
                    }
                }
                if machine.is_measuring() {
                    for (active, job) in active.iter_mut().zip(&mut jobs) {
                        active.predict(&machine, slots);
                        *job = active.job;
                    }
                }
            }
            Event::Cancelled(id) | Event::Due(id) => {
                let why = if matches!(event, Event::Due(_)) { End::Expired } else { End::Cancelled };
                if let Some(place) = place_of(&active, id) {
                    end(place, why, now, &mut active, &mut jobs, &mut records);
                }
            }
        }
        // Events of the same moment first: sixteen jobs that arrive at once are seen together.
        if events.peek().is_some_and(|Reverse(Timed(at, ..))| *at <= now) {
            continue;
        }
        if scheduler.gives_up_early() {
            // Rows that are running count as done: their time is not known.
            while let Some(place) = jobs.iter().position(|job| job.is_ready && job.is_beyond_hope(now)) {
                end(place, End::Expired, now, &mut active, &mut jobs, &mut records);
            }
        }
        while free > 0 {
            let (pass, seconds) = next_pass(&mut machine, scheduler, lane, now, &mut active, &mut jobs);
            if pass.is_empty() {
                break;
            }
            free -= 1;
            push(&mut events, now + seconds, Event::PassDone(pass, seconds));
        }
    }
    assert!(active.is_empty(), "jobs are left without an end");
    let records: Vec<Record> = records.into_iter().flatten().collect();
    assert_eq!(records.len(), arrivals.len(), "a job has no end");
    records
}

/// Fills a pass: the jobs of its rows, and how long it takes. The latest of its rows decides.
fn next_pass(
    machine: &mut Machine,
    scheduler: &mut impl Scheduler,
    lane: Lane,
    now: Seconds,
    active: &mut [Active],
    jobs: &mut [Job],
) -> (Vec<u64>, Seconds) {
    let (mut pass, mut shape, mut seconds) = (Vec::new(), None, 0.0_f64);
    while pass.len() < lane.batch {
        let fits = |active: &Active| shape.is_none_or(|shape| active.arrival.shape == shape);
        let fitting = |(active, job): (&Active, &Job)| Job { is_ready: job.is_ready && fits(active), ..*job };
        let candidates: Vec<Job> = active.iter().zip(&*jobs).map(fitting).collect();
        let Some(place) = scheduler.choose(&candidates, now) else {
            assert!(!candidates.iter().any(|job| job.is_ready), "there is room in a pass and a row waits");
            break;
        };
        let this = &mut active[place];
        assert!(this.to_start > 0, "a job without a row to start was chosen");
        scheduler.charge(&this.job);
        this.to_start -= 1;
        this.running += 1;
        this.rows += 1;
        this.started.get_or_insert(now);
        this.predict(machine, lane.slots());
        jobs[place] = this.job;
        shape = Some(this.arrival.shape);
        seconds = seconds.max(machine.row_time(this.arrival.row_time(this.rows), now));
        pass.push(this.job.id);
    }
    (pass, seconds)
}

fn place_of(active: &[Active], id: u64) -> Option<usize> {
    active.iter().position(|active| active.job.id == id)
}

fn end(
    place: usize,
    end: End,
    at: Seconds,
    active: &mut Vec<Active>,
    jobs: &mut Vec<Job>,
    records: &mut [Option<Record>],
) {
    let Active { arrival, job, started, rows, .. } = active.remove(place);
    jobs.remove(place);
    let record = &mut records[job.id as usize];
    assert!(record.is_none(), "a job ended twice");
    *record = Some(Record { arrival, end, at, started, rows });
}
