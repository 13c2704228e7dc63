//! Estimates of x0 on the way: what the model takes the sample for at a step, at a bounded rate.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What the model takes a sample for.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Steps taken, from 1.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The predicted x0, of as many elements as x.
    pub x0: Vec<f32>,
}

/// Where the estimates of a trajectory go. Only the latest is kept: a slow receiver misses the others.
#[derive(Debug)]
pub struct Estimates {
    interval: Duration,
    given: Option<Instant>,
    latest: watch::Sender<Option<Estimate>>,
}

impl Estimates {
    /// Estimates that are at least `interval` apart, and their receiver, which ends with the trajectory.
    pub fn new(interval: Duration) -> (Self, watch::Receiver<Option<Estimate>>) {
        let (latest, receiver) = watch::channel(None);
        (Self { interval, given: None, latest }, receiver)
    }

    /// Whether there may be another one now, and somebody waits for it.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let is_due = self.given.is_none_or(|given| now.duration_since(given) >= self.interval);
        is_due && !self.latest.is_closed()
    }

    pub(super) fn give(&mut self, estimate: Estimate, now: Instant) {
        self.given = Some(now);
        self.latest.send_replace(Some(estimate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_apart_and_the_latest_is_kept() {
        let (mut estimates, receiver) = Estimates::new(Duration::from_millis(500));
        let begun = Instant::now();
        let given = (0..40).filter(|step| {
            let now = begun + Duration::from_millis(100 * *step);
            let is_due = estimates.is_due(now);
            if is_due {
                estimates.give(Estimate { step: *step as usize, steps: 40, x0: Vec::new() }, now);
            }
            is_due
        });
        assert_eq!(given.collect::<Vec<_>>(), [0, 5, 10, 15, 20, 25, 30, 35]);
        assert_eq!(receiver.borrow().as_ref().map(|estimate| estimate.step), Some(35));
        drop(receiver);
        assert!(!estimates.is_due(begun + Duration::from_mins(1)), "nobody waits for it");
    }
}
