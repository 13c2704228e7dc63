//! Which answers are worth another attempt, after which wait, and how many.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::refusal;

/// Attempts of a call, the first included.
pub(super) const ATTEMPTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// What a call adds to the budget; a retry takes 1 from it.
const SHARE: f64 = 0.2;
/// What the budget holds at most, and at first.
const MOST: f64 = 10.0;

/// What an answer without a message means for its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The caller's to hear; the replica did its work.
    Final,
    /// The replica could not take it; another may. Where the server says so, the wait until it should be asked again.
    Unavailable(Option<Duration>),
    /// The replica has other models than the call is for; another may have them.
    OtherModels,
}

/// Judges the status that a replica answered with.
pub(super) fn judge(status: &Status) -> Verdict {
    match status.code() {
        // A replica whose own upstream is gone is no worse than the others, and has tried again itself.
        Code::Unavailable if !refusal::is_of_an_upstream(status) => {
            Verdict::Unavailable(status.get_details_retry_info().and_then(|info| info.retry_delay))
        }
        Code::FailedPrecondition if refusal::is_for_other_models(status) => Verdict::OtherModels,
        _ => Verdict::Final,
    }
}

/// The wait before the attempt after `attempt`, which counts from 1: full jitter under a bound that doubles.
pub(super) fn wait_after(attempt: u32) -> Duration {
    bound_after(attempt).mul_f64(rand::rng().random_range(0.0..=1.0))
}

fn bound_after(attempt: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(LONGEST_WAIT)
}

/// Keeps retries to a share of the calls: where all fail, they must not multiply the load.
#[derive(Debug)]
pub(super) struct Budget(Mutex<f64>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new(MOST))
    }

    /// Notes a first attempt.
    pub(super) fn earn(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = (*held + SHARE).min(MOST);
    }

    /// Whether there is enough for a retry, which is then taken.
    pub(super) fn spend(&self) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_enough = *held >= 1.0;
        if is_enough {
            *held -= 1.0;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;

    #[test]
    fn only_what_another_replica_may_answer_is_tried_again() {
        let judged = |refusal: Refusal| judge(&refusal.into());
        assert_eq!(judged(Refusal::unavailable("")), Verdict::Unavailable(Some(Duration::from_secs(1))));
        assert_eq!(judge(&Status::unavailable("")), Verdict::Unavailable(None));
        assert_eq!(judged(Refusal::unavailable("").of_upstream("encoder")), Verdict::Final);
        assert_eq!(judged(Refusal::model_changed("")), Verdict::OtherModels);
        assert_eq!(judged(Refusal::mismatch("")), Verdict::OtherModels);
        assert_eq!(judge(&Status::failed_precondition("")), Verdict::Final);
        for other in [Refusal::overloaded(""), Refusal::internal(""), Refusal::not_found("")] {
            assert_eq!(judged(other), Verdict::Final);
        }
    }

    #[test]
    fn retries_are_a_fifth_of_the_calls() {
        let budget = Budget::new();
        while budget.spend() {}
        let calls = 1000;
        let retries = (0..calls).filter(|_| {
            budget.earn();
            budget.spend()
        });
        // Twentieths add up with rounding.
        assert!((195..=205).contains(&retries.count()));
    }

    #[test]
    fn waits_grow_to_a_second() {
        let bounds = [1, 2, 3, 4, 5, 60].map(|attempt| bound_after(attempt).as_millis());
        assert_eq!(bounds, [100, 200, 400, 800, 1000, 1000]);
        let waits: Vec<_> = (0..100).map(|_| wait_after(2)).collect();
        assert!(waits.iter().all(|wait| *wait <= bound_after(2)));
        assert!(waits.iter().any(|wait| *wait != waits[0]), "without jitter");
    }
}
