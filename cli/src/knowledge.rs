//! `reverie knowledge`: makes, publishes and searches knowledge bases.

mod build;
mod embedding;
mod listing;
mod picture_files;
mod publish;
mod search;
mod source;
mod target;
mod unfinished;

use clap::Subcommand;

use crate::Failure;

/// Builds, publishes and searches knowledge bases.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds one from images with captions.
    Build(build::Arguments),
    /// Writes one to object storage, or to another folder.
    Publish(publish::Arguments),
    /// Searches one for a text, an image, or both, without drawing.
    Search(search::Arguments),
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Build(arguments) => build::run(arguments).await,
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::Search(arguments) => search::run(arguments).await,
    }
}
