//! `reverie models`: models of other makers become bundles, and bundles are tried out and published.

mod check;
mod import;
mod publish;

use clap::Subcommand;

use crate::Failure;

/// Imports models, tries them out and publishes them.
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
    /// Writes a bundle to object storage, or to another folder.
    Publish(publish::Arguments),
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Import(arguments) => import::run(arguments).await,
        Command::Check(arguments) => check::run(arguments).await,
        Command::Publish(arguments) => publish::run(arguments).await,
    }
}
