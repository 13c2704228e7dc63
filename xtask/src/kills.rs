//! The services of a knowledge base killed at random moments while it is written to, as often as one likes. CI does it a hundred times.

use crate::workspace::Workspace;
use crate::{Outcome, test_suite};

/// How often, and at which moments.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many kills
    #[arg(long, default_value_t = 2000)]
    kills: u64,
    /// Seed of the moments and of what is written
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the test.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Outcome {
    let variables = [
        ("REVERIE_KILLS", Some(arguments.kills.to_string())),
        ("REVERIE_SEED", Some(arguments.seed.to_string())),
    ];
    test_suite::run_at_length(workspace, &["killed_writers"], &variables)
}
