//! What a row costs: measured, not configured.

use std::time::Duration;

use crate::policy::Seconds;

/// Rows that a mean follows: a change of pace counts for two thirds after as many.
const MEMORY: f64 = 16.0;

/// The time that a session takes for a row of weight 1, as a moving mean.
///
/// It includes the wait for a core, which other models of the process may be using: it is the pace at which the lane really moves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    seconds: Seconds,
    rows: u64,
    /// Time of steps since the last row.
    overhead: Duration,
}

impl Cost {
    /// Seconds of one row of `weight`; 0 until one was measured.
    pub(super) fn row(&self, weight: f64) -> Seconds {
        self.seconds * weight
    }

    /// Notes what a session did between rows; the next row bears it.
    pub(super) fn note_overhead(&mut self, time: Duration) {
        self.overhead += time;
    }

    /// Notes a row.
    pub(super) fn note_row(&mut self, time: Duration, weight: f64) {
        let time = time + std::mem::take(&mut self.overhead);
        self.rows += 1;
        let share = (1.0 / self.rows as f64).max(1.0 / MEMORY);
        self.seconds += share * (time.as_secs_f64() / weight.max(f64::MIN_POSITIVE) - self.seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_costs_what_rows_took_by_their_weight() {
        let mut cost = Cost::default();
        assert!(cost.row(5.0) <= 0.0);
        cost.note_overhead(Duration::from_millis(100));
        cost.note_row(Duration::from_millis(300), 2.0);
        assert!((cost.row(1.0) - 0.2).abs() < 1e-9 && (cost.row(3.0) - 0.6).abs() < 1e-9);
        for _ in 0..100 {
            cost.note_row(Duration::from_millis(50), 1.0);
        }
        assert!((cost.row(1.0) - 0.05).abs() < 1e-3, "{cost:?}");
    }
}
