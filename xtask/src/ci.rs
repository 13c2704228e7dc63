//! What CI runs: every check in order, the quick ones first, stopping at the first that fails.

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::workspace::Workspace;
use crate::{
    Outcome, cargo_checks, cargo_deny, cargo_machete, chart, clients, cluster, contracts, guides, images,
    milvus, observability, openvino, ray, storage, test_suite, training_tests,
};

/// The step that ended the run, and why.
#[derive(Debug, Error)]
#[error("{step} failed; `cargo xtask {step}` repeats this step alone")]
struct StepFailed {
    step: &'static str,
    source: Box<dyn std::error::Error>,
}

/// A check, and the subcommand of the same name that runs it alone.
type Step = (&'static str, fn(&Workspace) -> Outcome);

const STEPS: [Step; 18] = [
    ("fmt", cargo_checks::fmt),
    ("clippy", cargo_checks::clippy),
    ("doc", cargo_checks::doc),
    ("deny", cargo_deny::check),
    ("machete", cargo_machete::check),
    ("buf", contracts::check),
    ("chart", chart::check_if_possible),
    ("training", training_tests::run),
    ("test", |workspace| test_suite::run(workspace, &[])),
    ("clients", clients::run),
    ("openvino", openvino::run),
    ("milvus", milvus::run),
    ("ray", ray::run),
    ("guide", guides::follow_laptop),
    ("observability", observability::run_if_possible),
    ("storage", storage::run_if_possible),
    // After the tests, whose programs it packs.
    ("images", images::check),
    // Of those images.
    ("cluster", cluster::check),
];

/// Runs every step; the first failure ends it.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    run_steps(&STEPS, workspace)
}

fn run_steps(steps: &[Step], workspace: &Workspace) -> Outcome {
    let began = Instant::now();
    for (name, step) in steps {
        eprintln!("\n==> {name}");
        let step_began = Instant::now();
        let outcome = step(workspace);
        let ending = if outcome.is_ok() { "passed" } else { "failed" };
        eprintln!("<== {name} {ending} in {}", minutes_and_seconds(step_began.elapsed()));
        outcome.map_err(|source| StepFailed { step: name, source })?;
    }
    eprintln!("\nAll {} steps passed in {}", steps.len(), minutes_and_seconds(began.elapsed()));
    Ok(())
}

fn minutes_and_seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_ends_the_run_and_is_named() {
        let steps: [Step; 3] = [
            ("passes", |_| Ok(())),
            ("fails", |_| Err("a reason".into())),
            ("is not reached", |_| panic!("ran after a failure")),
        ];
        let error = run_steps(&steps, &Workspace::locate()).unwrap_err();
        assert!(error.to_string().contains("cargo xtask fails"), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "a reason");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(minutes_and_seconds(Duration::from_millis(340)), "0.3 s");
        assert_eq!(minutes_and_seconds(Duration::from_secs(754)), "12 min 34 s");
    }
}
