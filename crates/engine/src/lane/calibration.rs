//! Passes before the first job: they measure what a pass costs, and load what ONNX Runtime loads at the first pass of a session.

use std::time::{Duration, Instant};

use crate::policy::Seconds;

/// Passes of each session over each row, if they fit into the time; and one that warms the session up, and says nothing of what the next
/// ones cost. That one and one over each row are computed in any case.
const PASSES: usize = 2;

/// Time between two calibrations, at least.
const AGAIN: Duration = Duration::from_secs(10);

/// What is left of a lane's calibration. Each session computes its passes while the lane has no job.
#[derive(Debug)]
pub(super) struct Calibration {
    /// Passes left, by session.
    left: Vec<usize>,
    seconds_left: Seconds,
    /// How many rows there are.
    rows: usize,
    /// As it was at first.
    passes: usize,
    seconds: Seconds,
    /// When it began, or computed its last pass.
    since: Instant,
}

impl Calibration {
    /// Of `sessions` over so many `rows`, for at most about `seconds` together, but with a pass over each row on a warm session; none if
    /// that is 0.
    pub(super) fn new(sessions: usize, rows: usize, seconds: Seconds) -> Self {
        let passes = if seconds > 0.0 && rows > 0 { 1 + PASSES * rows } else { 0 };
        Self {
            left: vec![passes; sessions],
            seconds_left: seconds,
            rows,
            passes,
            seconds,
            since: Instant::now(),
        }
    }

    /// The row of the next pass of the session `seat`, from 0: all in turn, the last one to warm up.
    pub(super) fn next_row(&self, seat: usize) -> usize {
        let done = self.passes.saturating_sub(self.left[seat]);
        (done + self.rows.saturating_sub(1)) % self.rows.max(1)
    }

    /// Whether the session `seat` has a pass to compute.
    pub(super) fn has_pass(&self, seat: usize) -> bool {
        let left = self.left[seat];
        left > (PASSES - 1) * self.rows || (left > 0 && self.seconds_left > 0.0)
    }

    /// The session `seat` computed one of its passes. Gives whether it was the last one of all.
    pub(super) fn note(&mut self, seat: usize, seconds: Seconds) -> bool {
        // Another session may have ended it meanwhile.
        self.left[seat] = self.left[seat].saturating_sub(1);
        self.seconds_left -= seconds;
        self.since = Instant::now();
        self.is_over()
    }

    fn is_over(&self) -> bool {
        !(0..self.left.len()).any(|seat| self.has_pass(seat))
    }

    /// There will be no more passes.
    pub(super) fn end(&mut self) {
        (self.passes, self.seconds) = (0, 0.0);
        self.left.fill(0);
    }

    /// Begins again, unless it has not ended or did a short time ago, or cannot. Gives whether it does.
    pub(super) fn renew(&mut self, now: Instant) -> bool {
        if self.passes == 0 || !self.is_over() || now.duration_since(self.since) < AGAIN {
            return false;
        }
        self.left.fill(self.passes);
        (self.seconds_left, self.since) = (self.seconds, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_is_warmed_up_and_the_time_is_kept() {
        let mut quick = Calibration::new(2, 1, 1.0);
        let passes = |calibration: &mut Calibration, seconds| {
            let mut passes = Vec::new();
            while let Some(seat) = (0..2).find(|seat| calibration.has_pass(*seat)) {
                passes.push((seat, calibration.note(seat, seconds)));
            }
            passes
        };
        let told = passes(&mut quick, 0.1);
        assert_eq!(told, [(0, false), (0, false), (0, false), (1, false), (1, false), (1, true)]);
        let slow = passes(&mut Calibration::new(2, 1, 1.0), 5.0);
        assert_eq!(slow, [(0, false), (0, false), (1, false), (1, true)]);
        assert_eq!(passes(&mut Calibration::new(2, 1, 0.0), 5.0), []);
        let now = Instant::now();
        assert!(!quick.renew(now), "so soon");
        let mut unfinished = Calibration::new(2, 1, 1.0);
        assert!(!unfinished.renew(now + AGAIN), "it goes on");
        assert!(quick.renew(now + AGAIN) && !quick.renew(now + AGAIN));
        assert_eq!(passes(&mut quick, 0.1).len(), 6);
        let mut failed = Calibration::new(2, 1, 1.0);
        failed.end();
        assert_eq!(passes(&mut failed, 0.1), []);
        assert!(!failed.renew(now + AGAIN));
    }

    #[test]
    fn every_row_is_computed_on_a_warm_session() {
        for (seconds_of_a_pass, rows) in [(0.01, vec![1, 0, 1, 0, 1]), (5.0, vec![1, 0, 1])] {
            let mut calibration = Calibration::new(1, 2, 1.0);
            let mut computed = Vec::new();
            while calibration.has_pass(0) {
                computed.push(calibration.next_row(0));
                calibration.note(0, seconds_of_a_pass);
            }
            assert_eq!(computed, rows);
        }
    }
}
