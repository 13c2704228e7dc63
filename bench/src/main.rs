//! `reverie-bench`: measures the mesh.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use reverie::program::{self, TelemetryArguments};
use reverie_bench::Command;
use reverie_service_kit::process;

/// Measures the mesh: what an image costs, how the mesh bears load, and how true its images are.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetryArguments,
    #[command(subcommand)]
    command: Command,
}

fn main() {
    process::begin();
    let Arguments { telemetry, command } = Arguments::parse();
    program::run("reverie-bench", telemetry, async || reverie_bench::run(command).await)
}
