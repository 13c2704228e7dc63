//! The mesh attacked, and left under load, for as long as one likes. CI does both for a short while.

use crate::workspace::Workspace;
use crate::{Outcome, test_suite};

/// Which faults, and how many.
#[derive(Debug, clap::Args)]
pub(crate) struct AttackArguments {
    /// How many faults
    #[arg(long, default_value_t = 600)]
    faults: u64,
    /// Seed of the schedule
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of faults, with commas between them, such as Killed,FullDisk; all if it is left out
    #[arg(long)]
    kinds: Option<String>,
}

/// For how long.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakArguments {
    /// Minutes
    #[arg(long, default_value_t = 120)]
    minutes: u64,
    /// Seed of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Faults come and go.
pub(crate) fn attack(workspace: &Workspace, arguments: &AttackArguments) -> Outcome {
    let variables = [
        ("REVERIE_FAULTS", Some(arguments.faults.to_string())),
        ("REVERIE_SEED", Some(arguments.seed.to_string())),
        ("REVERIE_KINDS", arguments.kinds.clone()),
    ];
    test_suite::run_at_length(workspace, &["attacked"], &variables)
}

/// Load comes and goes.
pub(crate) fn soak(workspace: &Workspace, arguments: &SoakArguments) -> Outcome {
    let variables = [
        ("REVERIE_SOAK_SECONDS", Some((60 * arguments.minutes).to_string())),
        ("REVERIE_SEED", Some(arguments.seed.to_string())),
    ];
    test_suite::run_at_length(workspace, &["soaked"], &variables)
}
