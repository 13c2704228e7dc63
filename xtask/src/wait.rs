//! Waiting for a condition, with a bound, and giving up when somebody wants this process to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Ctrl-C, SIGTERM or SIGHUP came.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A condition that did not come true.
#[derive(Debug, Error)]
pub(crate) enum WaitError {
    #[error("waited {} s for {condition}", bound.as_secs())]
    TooLong { condition: String, bound: Duration },
    #[error("interrupted")]
    Interrupted,
}

/// From here on a signal only makes waits end, so that the cluster is still taken down.
pub(crate) fn catch_signals() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
}

/// Fails once a signal came.
pub(crate) fn go_on() -> Result<(), WaitError> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(WaitError::Interrupted) } else { Ok(()) }
}

/// Looks until `look` finds something; `condition` names it in the error.
pub(crate) fn until<T>(
    condition: &str,
    bound: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        go_on()?;
        if began.elapsed() > bound {
            return Err(WaitError::TooLong { condition: condition.to_owned(), bound });
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_found_or_says_what_was_not() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_mins(1), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.unwrap(), 3);
        let error = until("the moon", Duration::ZERO, || None::<()>).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for the moon");
    }
}
