//! What a forward pass costs: measured, not configured.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::policy::Seconds;

/// Passes that the cost is the median of.
const SAMPLES: usize = 15;
/// Of these, the ones that still count when a lane has been idle.
const OLD: usize = 3;
/// Passes after which the cost is more than a guess.
const SURE: usize = 4;

/// The time that a session takes for a pass over rows of weight 1: the median of recent passes, so that one that was slow for once, such
/// as the first one of a process, changes little. As passes are padded, it does not depend on how many rows one has.
///
/// It includes the wait for a core, which other models of the process may be using: it is the pace at which the lane really moves.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    recent: VecDeque<Seconds>,
    median: Seconds,
    /// Passes since the lane was idle.
    fresh: usize,
    /// Time of steps since the last pass.
    overhead: Duration,
}

impl Cost {
    /// Seconds of one pass over rows of `weight`; 0 until one was measured.
    pub(super) fn pass(&self, weight: f64) -> Seconds {
        self.median * weight
    }

    /// Whether it is known well enough to give a job up for it. After an idle time it is not, until some passes were measured: the cores
    /// may have been busy with other models when the last ones were.
    pub(super) fn is_sure(&self) -> bool {
        self.fresh >= SURE
    }

    /// The lane has been idle.
    pub(super) fn rest(&mut self) {
        self.fresh = 0;
        let newest = self.recent.len().saturating_sub(OLD);
        self.recent.drain(..newest);
    }

    /// Notes what a session did between passes; the next pass bears it.
    pub(super) fn note_overhead(&mut self, time: Duration) {
        self.overhead += time;
    }

    /// Notes a pass over rows of `weight`.
    pub(super) fn note_pass(&mut self, time: Duration, weight: f64) {
        let time = time + mem::take(&mut self.overhead);
        if self.recent.len() == SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back(time.as_secs_f64() / weight.max(f64::MIN_POSITIVE));
        self.fresh += 1;
        let mut sorted: Vec<Seconds> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        self.median = sorted[sorted.len() / 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(cost: &mut Cost, count: usize, milliseconds: u64) {
        (0..count).for_each(|_| cost.note_pass(Duration::from_millis(milliseconds), 1.0));
    }

    #[test]
    fn a_pass_costs_what_passes_took_by_the_weight_of_their_rows() {
        let mut cost = Cost::default();
        assert!(cost.pass(5.0) <= 0.0 && !cost.is_sure());
        cost.note_overhead(Duration::from_millis(100));
        cost.note_pass(Duration::from_millis(300), 2.0);
        assert!((cost.pass(1.0) - 0.2).abs() < 1e-9 && (cost.pass(3.0) - 0.6).abs() < 1e-9);
        passes(&mut cost, 100, 50);
        assert!((cost.pass(1.0) - 0.05).abs() < 1e-9 && cost.is_sure(), "{cost:?}");
    }

    #[test]
    fn a_pass_that_was_slow_for_once_changes_nothing() {
        let mut cost = Cost::default();
        passes(&mut cost, 1, 9000);
        passes(&mut cost, 2, 50);
        assert!((cost.pass(1.0) - 0.05).abs() < 1e-9, "the first one of a process: {cost:?}");
        passes(&mut cost, 5, 50);
        passes(&mut cost, 1, 60_000);
        assert!((cost.pass(1.0) - 0.05).abs() < 1e-9, "a machine that stood still: {cost:?}");
    }

    #[test]
    fn what_was_measured_before_an_idle_time_is_no_more_than_a_guess() {
        let mut cost = Cost::default();
        passes(&mut cost, 100, 400);
        cost.rest();
        assert!((cost.pass(1.0) - 0.4).abs() < 1e-9 && !cost.is_sure());
        passes(&mut cost, SURE, 50);
        assert!((cost.pass(1.0) - 0.05).abs() < 1e-9 && cost.is_sure(), "{cost:?}");
    }
}
