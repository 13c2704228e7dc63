//! Steps that need programs which are not everywhere: where one is missing, CI says so and goes on.

use std::path::PathBuf;

use crate::{Outcome, process};

/// What installs Go.
pub(crate) const GO: &str = "install Go 1.26 or newer";
/// What installs Prometheus and promtool.
pub(crate) const PROMETHEUS: &str = "install Prometheus (Debian: apt-get install prometheus)";

/// A program is not here and cannot be built here.
#[derive(Debug, thiserror::Error)]
#[error("{step} with {program}, which is not here: {remedy}")]
pub(crate) struct Missing {
    step: &'static str,
    program: &'static str,
    remedy: &'static str,
}

/// Finds a program for `step`, such as "the chart is checked".
pub(crate) fn find(
    step: &'static str,
    program: &'static str,
    remedy: &'static str,
) -> Result<PathBuf, Missing> {
    process::find(program).ok_or(Missing { step, program, remedy })
}

/// Says what is missing, if that is why a step did not run; any other outcome stays.
pub(crate) fn skip(outcome: Outcome) -> Outcome {
    match outcome {
        Err(error) if error.is::<Missing>() => {
            eprintln!("Skipped: {error}");
            Ok(())
        }
        outcome => outcome,
    }
}
