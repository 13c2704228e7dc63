//! `reverie knowledge`: makes knowledge bases and publishes them.

mod build;
mod embedding;
mod picture_files;
mod publish;
mod source;
mod target;
mod unfinished;

use clap::Subcommand;

use crate::Failure;

/// Builds and publishes knowledge bases.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds one from a folder with `entries.jsonl` and the pictures it names.
    Build(build::Arguments),
    /// Writes one to object storage, or to another folder.
    Publish(publish::Arguments),
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Build(arguments) => build::run(arguments).await,
        Command::Publish(arguments) => publish::run(arguments).await,
    }
}
