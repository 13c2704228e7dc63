//! The bounded queue between callers and the worker, and the figures both keep.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::Span;

use crate::outlet::Outlet;
use crate::trajectory::{Event, Failure, Trajectory};

/// Why a trajectory was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is at its limit: try again later, or elsewhere.
    #[error("the queue is full: {waiting} waiting of at most {limit}")]
    Full {
        /// Trajectories waiting.
        waiting: usize,
        /// The most that may wait.
        limit: usize,
    },
    /// The scheduler finishes what it has and takes nothing new.
    #[error("the step scheduler is shutting down")]
    ShuttingDown,
    /// The worker thread died.
    #[error("the step scheduler's worker is gone")]
    WorkerGone,
    /// A sample of no elements.
    #[error("the sample has no elements")]
    Empty,
}

/// What the scheduler has done since it started, and what it holds now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Trajectories in the worker's hands.
    pub active: usize,
    /// Trajectories in the queue.
    pub waiting: usize,
    /// Forward passes.
    pub ticks: u64,
    /// Rows of those passes.
    pub rows: u64,
    /// Trajectories that ended in a sample.
    pub finished: u64,
    /// Trajectories that failed.
    pub failed: u64,
    /// Trajectories whose receiver went away before the end.
    pub cancelled: u64,
    /// Time trajectories spent in the queue, added up over those admitted.
    pub queue_seconds: f64,
    /// Time in forward passes.
    pub model_seconds: f64,
    /// Time the worker was busy with anything else.
    pub overhead_seconds: f64,
}

/// A trajectory in the queue.
pub(crate) struct Waiting<C> {
    pub(crate) trajectory: Trajectory<C>,
    pub(crate) outlet: Outlet,
    /// Of the request it belongs to.
    pub(crate) span: Span,
    pub(crate) submitted: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Draining,
    Gone,
}

struct State<C> {
    phase: Phase,
    waiting: VecDeque<Waiting<C>>,
    stats: Stats,
}

impl<C> State<C> {
    /// Lets go of what nobody waits for any more or what would come too late.
    fn sweep(&mut self, now: Instant) {
        // One pass over the ring, in order.
        for _ in 0..self.waiting.len() {
            let Some(next) = self.waiting.pop_front() else { break };
            if next.outlet.is_closed() {
                self.stats.cancelled += 1;
            } else if next.trajectory.deadline.is_some_and(|deadline| deadline <= now) {
                self.stats.failed += 1;
                let steps = next.trajectory.sampler.evaluations();
                next.outlet.finish(Event::Failed(Failure::DeadlineExceeded { step: 0, steps }));
            } else {
                self.waiting.push_back(next);
            }
        }
    }
}

pub(crate) struct Queue<C> {
    limit: usize,
    state: Mutex<State<C>>,
    changed: Condvar,
}

impl<C> Queue<C> {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State { phase: Phase::Open, waiting: VecDeque::new(), stats: Stats::default() };
        Self { limit, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(crate) fn push(&self, waiting: Waiting<C>) -> Result<(), SubmitError> {
        let mut state = self.lock();
        match state.phase {
            Phase::Open => {}
            Phase::Draining => return Err(SubmitError::ShuttingDown),
            Phase::Gone => return Err(SubmitError::WorkerGone),
        }
        if state.waiting.len() >= self.limit {
            state.sweep(waiting.submitted);
        }
        if state.waiting.len() >= self.limit {
            return Err(SubmitError::Full { waiting: state.waiting.len(), limit: self.limit });
        }
        state.waiting.push_back(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Moves up to `room` trajectories into `admitted`, oldest first. With nothing else to do (`idle`), waits for one;
    /// false means none will come.
    pub(crate) fn admit(&self, room: usize, idle: bool, admitted: &mut Vec<Waiting<C>>) -> bool {
        let mut state = self.lock();
        loop {
            state.sweep(Instant::now());
            if !idle || !state.waiting.is_empty() {
                break;
            }
            if state.phase != Phase::Open {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = room.min(state.waiting.len());
        admitted.extend(state.waiting.drain(..count));
        state.stats.active += count;
        true
    }

    /// Takes nothing new; what is queued is still served.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        self.changed.notify_one();
    }

    /// Nothing will be served any more; outlets still in the queue say so as they are dropped.
    pub(crate) fn abandon(&self) {
        let abandoned = {
            let mut state = self.lock();
            state.phase = Phase::Gone;
            state.stats.active = 0;
            std::mem::take(&mut state.waiting)
        };
        drop(abandoned);
    }

    pub(crate) fn is_served(&self) -> bool {
        self.lock().phase != Phase::Gone
    }

    pub(crate) fn record(&self, update: impl FnOnce(&mut Stats)) {
        update(&mut self.lock().stats);
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.lock();
        Stats { waiting: state.waiting.len(), ..state.stats }
    }

    /// Nothing that holds the lock can leave the state half-changed, so a panic elsewhere does not matter to it.
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
