//! `reverie-bench`: measures the mesh.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use reverie::program::{self, StorageArguments, TelemetryArguments};
use reverie_bench::Command;
use reverie_service_kit::process;

/// Measures the mesh: what an image costs, how the mesh bears load, and how true its images are.
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

fn main() {
    process::begin();
    let Arguments { telemetry, storage, command } = Arguments::parse();
    program::run("reverie-bench", telemetry, &storage, async || reverie_bench::run(command).await)
}
