//! Every parser of bytes from outside fed with inputs in which one thing is wrong, for as long as one likes. CI does some thousands.

use crate::workspace::Workspace;
use crate::{Outcome, test_suite};

/// The test programs that do it.
const TESTS: [&str; 4] = ["mutations", "mutated_files", "mutated_requests", "mutated_calls"];

/// For how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Minutes for each test program
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// The seed of the first case, as a case that failed told it; random if it is left out
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the tests.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Outcome {
    let variables = [
        ("REVERIE_MUTATION_MINUTES", Some(arguments.minutes.to_string())),
        ("REVERIE_MUTATION_SEED", arguments.seed.map(|seed| seed.to_string())),
    ];
    test_suite::run_at_length(workspace, &TESTS, &variables)
}
