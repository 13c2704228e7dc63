//! The services of a knowledge base killed at random moments while it is written to, as often as one likes. CI does it a hundred times.

use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, process};

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
    let library = onnxruntime::ensure()?;
    process::run(workspace.cargo("build").args(["--workspace", "--bins", "--locked"]))?;
    process::run(
        workspace
            .cargo("test")
            .args(["--workspace", "--locked", "--test", "killed_writers", "--", "--nocapture"])
            .env("REVERIE_KILLS", arguments.kills.to_string())
            .env("REVERIE_SEED", arguments.seed.to_string())
            .env(ORT_DYLIB_PATH, library),
    )?;
    Ok(())
}
