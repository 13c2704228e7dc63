//! `reverie models`: models of other makers become bundles, and bundles are tried out.

mod check;
mod import;

use clap::Subcommand;

use crate::Failure;

/// Imports models and tries them out.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a bundle from a pipeline that was exported to ONNX.
    Import(import::Arguments),
    /// Verifies every package of a bundle and runs every graph once.
    Check(check::Arguments),
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Import(arguments) => import::run(arguments).await,
        Command::Check(arguments) => check::run(arguments).await,
    }
}
