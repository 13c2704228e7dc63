//! What a row costs: measured, not configured.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::policy::Seconds;

/// Rows that the cost is the median of.
const REMEMBERED: usize = 15;
/// Of these, the ones that still count when a lane has been idle.
const OLD: usize = 3;
/// Rows after which the cost is more than a guess.
const SURE: usize = 4;

/// The time that a session takes for a row of weight 1: the median of recent rows, so that a row that was slow for once, such as the
/// first one of a process, changes little.
///
/// It includes the wait for a core, which other models of the process may be using: it is the pace at which the lane really moves.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    recent: VecDeque<Seconds>,
    median: Seconds,
    /// Rows since the lane was idle.
    fresh: usize,
    /// Time of steps since the last row.
    overhead: Duration,
}

impl Cost {
    /// Seconds of one row of `weight`; 0 until one was measured.
    pub(super) fn row(&self, weight: f64) -> Seconds {
        self.median * weight
    }

    /// Whether it is known well enough to give a job up for it. After an idle time it is not, until some rows were measured: the cores
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

    /// Notes what a session did between rows; the next row bears it.
    pub(super) fn note_overhead(&mut self, time: Duration) {
        self.overhead += time;
    }

    /// Notes a row.
    pub(super) fn note_row(&mut self, time: Duration, weight: f64) {
        let time = time + mem::take(&mut self.overhead);
        if self.recent.len() == REMEMBERED {
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

    fn rows(cost: &mut Cost, count: usize, milliseconds: u64) {
        (0..count).for_each(|_| cost.note_row(Duration::from_millis(milliseconds), 1.0));
    }

    #[test]
    fn a_row_costs_what_rows_took_by_their_weight() {
        let mut cost = Cost::default();
        assert!(cost.row(5.0) <= 0.0 && !cost.is_sure());
        cost.note_overhead(Duration::from_millis(100));
        cost.note_row(Duration::from_millis(300), 2.0);
        assert!((cost.row(1.0) - 0.2).abs() < 1e-9 && (cost.row(3.0) - 0.6).abs() < 1e-9);
        rows(&mut cost, 100, 50);
        assert!((cost.row(1.0) - 0.05).abs() < 1e-9 && cost.is_sure(), "{cost:?}");
    }

    #[test]
    fn a_row_that_was_slow_for_once_changes_nothing() {
        let mut cost = Cost::default();
        rows(&mut cost, 1, 9000);
        rows(&mut cost, 2, 50);
        assert!((cost.row(1.0) - 0.05).abs() < 1e-9, "the first one of a process: {cost:?}");
        rows(&mut cost, 5, 50);
        rows(&mut cost, 1, 60_000);
        assert!((cost.row(1.0) - 0.05).abs() < 1e-9, "a machine that stood still: {cost:?}");
    }

    #[test]
    fn what_was_measured_before_an_idle_time_is_no_more_than_a_guess() {
        let mut cost = Cost::default();
        rows(&mut cost, 100, 400);
        cost.rest();
        assert!((cost.row(1.0) - 0.4).abs() < 1e-9 && !cost.is_sure());
        rows(&mut cost, SURE, 50);
        assert!((cost.row(1.0) - 0.05).abs() < 1e-9 && cost.is_sure(), "{cost:?}");
    }
}
