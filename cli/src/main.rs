//! `reverie`: draws images from text and from reference images that it retrieves.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use clap::{Parser, Subcommand};
use reverie::program::{self, StorageArguments, TelemetryArguments};
use reverie::{capabilities, gallery, generate, keys, knowledge, models, serve};
use reverie_service_kit::process;

/// Draws images from text and from reference images that it retrieves: retrieval-augmented, cascaded diffusion.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetryArguments,
    #[command(flatten)]
    storage: StorageArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draws one image, by a mesh in this process or by a running one (--server).
    Generate(Box<generate::Arguments>),
    /// Draws several prompts on one contact sheet, each with retrieved references and without.
    Gallery(gallery::Arguments),
    /// Shows what a mesh draws, takes and searches.
    Capabilities(capabilities::Arguments),
    /// Keeps the whole mesh listening in one process.
    Serve(serve::Arguments),
    /// Builds, publishes and searches knowledge bases.
    Knowledge(knowledge::Arguments),
    /// Makes API keys for the public door.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Imports third-party models, checks models and publishes them.
    Models(models::Arguments),
}

fn main() {
    process::begin();
    let arguments = Arguments::parse();
    program::run("reverie", arguments.telemetry, &arguments.storage, async || match arguments.command {
        Command::Generate(arguments) => Box::pin(generate::run(*arguments)).await,
        Command::Gallery(arguments) => Box::pin(gallery::run(arguments)).await,
        Command::Capabilities(arguments) => capabilities::run(arguments).await,
        Command::Serve(arguments) => Box::pin(serve::run(arguments)).await,
        Command::Knowledge(arguments) => knowledge::run(arguments).await,
        Command::Keys(command) => keys::run(command),
        Command::Models(arguments) => models::run(arguments).await,
    })
}
