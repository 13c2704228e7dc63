//! `reverie knowledge`: makes knowledge bases.

mod build;
mod embedding;
mod picture_files;
mod source;
mod target;
mod unfinished;

use clap::Subcommand;

use crate::Failure;

/// Builds knowledge bases.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds one from a folder with `entries.jsonl` and the pictures it names.
    Build(build::Arguments),
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Command::Build(arguments) = arguments.command;
    build::run(arguments).await
}
