//! `reverie bench`: what a picture costs, and how true it is.

use clap::Subcommand;

use crate::{Failure, creatures};

mod picture;
mod super_resolution;

/// Measures the mesh in this process: seconds a picture, time outside ONNX Runtime, memory.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
// Its group would have the name of the one it holds.
#[group(skip)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    picture: picture::Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CreatureDrawBench: how true to its creature and to its text a picture is, with and without retrieval.
    Creatures(creatures::Arguments),
    /// The levels of super-resolution against interpolation.
    SuperResolution(super_resolution::Arguments),
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Some(Command::Creatures(arguments)) => creatures::run(arguments).await,
        Some(Command::SuperResolution(arguments)) => super_resolution::run(arguments).await,
        None => picture::run(arguments.picture).await,
    }
}
