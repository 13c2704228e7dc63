//! `reverie`: draws pictures from text and remembered pictures.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reverie::{Failure, bench, gallery, generate, knowledge, models, serve};
use reverie_service_kit::output;
use reverie_service_kit::telemetry::{LogFormat, Telemetry, TelemetrySettings};

/// Draws pictures from text and remembered pictures: retrieval-augmented, cascaded diffusion.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    /// What is logged to standard error, in the syntax of `RUST_LOG`.
    #[arg(long, global = true, default_value = "warn", env = "RUST_LOG")]
    log: String,
    /// Sends spans by OTLP over gRPC to this address, such as <http://127.0.0.1:4317>.
    #[arg(long, global = true, default_value = "", value_name = "URL")]
    otlp_endpoint: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draws one picture, by a mesh in this process or by a running one (--server).
    Generate(generate::Arguments),
    /// Draws several prompts on one contact sheet, each with what was remembered and without.
    Gallery(gallery::Arguments),
    /// Keeps the whole mesh listening in one process.
    Serve(serve::Arguments),
    /// Builds knowledge bases.
    Knowledge(knowledge::Arguments),
    /// Imports models of other makers, and tries models out.
    Models(models::Arguments),
    /// Measures the mesh: what a picture costs, and how true it is.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output::failed("reverie", failure.as_ref()),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let settings = TelemetrySettings {
            log_format: LogFormat::Text,
            log_filter: arguments.log,
            otlp_endpoint: arguments.otlp_endpoint,
        };
        let telemetry = Telemetry::install("mesh", &settings)?;
        let outcome = match arguments.command {
            Command::Generate(arguments) => generate::run(arguments).await,
            Command::Gallery(arguments) => gallery::run(arguments).await,
            Command::Serve(arguments) => serve::run(arguments).await,
            Command::Knowledge(arguments) => knowledge::run(arguments).await,
            Command::Models(arguments) => models::run(arguments).await,
            Command::Bench(arguments) => bench::run(arguments).await,
        };
        telemetry.shutdown();
        outcome
    })
}
