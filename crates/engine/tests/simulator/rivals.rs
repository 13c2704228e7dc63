//! Policies to compare with: what other servers do, and what this one did before.

use reverie_engine::policy::{Job, Seconds};

use super::Scheduler;

/// Takes turns over at most so many jobs, step by step; the others wait. The step scheduler before the engine.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    pub(crate) width: usize,
    /// When each job last ran, by its id.
    last: std::collections::BTreeMap<u64, u64>,
    turn: u64,
}

impl RoundRobin {
    pub(crate) fn new(width: usize) -> Self {
        Self { width, last: std::collections::BTreeMap::new(), turn: 0 }
    }
}

impl Scheduler for RoundRobin {
    fn admit(&mut self, _: &[Job], _: &Job, _: Seconds) -> bool {
        true
    }

    fn choose(&mut self, jobs: &[Job], _: Seconds) -> Option<usize> {
        // The oldest jobs are in; of those, whose turn is longest ago.
        let mut places: Vec<usize> = (0..jobs.len()).collect();
        places.sort_by_key(|place| jobs[*place].id);
        places.truncate(self.width);
        let last = |place: &usize| self.last.get(&jobs[*place].id).copied().unwrap_or(0);
        places.into_iter().filter(|place| jobs[*place].is_ready).min_by_key(last)
    }

    fn charge(&mut self, job: &Job) {
        self.turn += 1;
        self.last.insert(job.id, self.turn);
    }
}

/// Oldest first.
#[derive(Debug, Default)]
pub(crate) struct OldestFirst;

impl Scheduler for OldestFirst {
    fn admit(&mut self, _: &[Job], _: &Job, _: Seconds) -> bool {
        true
    }

    fn choose(&mut self, jobs: &[Job], _: Seconds) -> Option<usize> {
        (0..jobs.len()).filter(|place| jobs[*place].is_ready).min_by_key(|place| jobs[*place].id)
    }

    fn charge(&mut self, _: &Job) {}
}

/// Earliest deadline first.
#[derive(Debug, Default)]
pub(crate) struct EarliestDeadline;

impl Scheduler for EarliestDeadline {
    fn admit(&mut self, _: &[Job], _: &Job, _: Seconds) -> bool {
        true
    }

    fn choose(&mut self, jobs: &[Job], _: Seconds) -> Option<usize> {
        let due = |place: &usize| jobs[*place].deadline.unwrap_or(f64::INFINITY);
        (0..jobs.len()).filter(|place| jobs[*place].is_ready).min_by(|a, b| due(a).total_cmp(&due(b)))
    }

    fn charge(&mut self, _: &Job) {}
}
