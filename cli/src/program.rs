//! What every program of the client does around its command: logs, traces, the runtime, the exit status.

use reverie_service_kit::telemetry::{LogFormat, Telemetry, TelemetrySettings};
use reverie_service_kit::{output, process};

use crate::Failure;

/// How often metrics are sent, where there is an OTLP endpoint.
const METRICS_INTERVAL_SECONDS: u64 = 60;

/// Where logs, traces and metrics go.
#[derive(Debug, clap::Args)]
pub struct TelemetryArguments {
    /// What is logged to standard error, in the syntax of `RUST_LOG`.
    #[arg(long, global = true, default_value = "warn", env = "RUST_LOG")]
    log: String,
    /// Sends spans and metrics by OTLP over gRPC to this address, such as <http://127.0.0.1:4317>.
    #[arg(long, global = true, default_value = "", value_name = "URL")]
    otlp_endpoint: String,
}

/// Runs `command` and ends the process: with status 0, or with 1 after `program` and the reason on standard error.
pub fn run(
    program: &str,
    arguments: TelemetryArguments,
    command: impl AsyncFnOnce() -> Result<(), Failure>,
) -> ! {
    match run_on_runtime(arguments, command) {
        Ok(()) => process::end(0),
        Err(failure) => process::end(output::failed(program, failure.as_ref())),
    }
}

fn run_on_runtime(
    arguments: TelemetryArguments,
    command: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let settings = TelemetrySettings {
            log_format: LogFormat::Text,
            log_filter: arguments.log,
            otlp_endpoint: arguments.otlp_endpoint,
            metrics_interval_seconds: METRICS_INTERVAL_SECONDS,
            record_prompts: false,
        };
        let telemetry = Telemetry::install("mesh", &settings)?;
        let outcome = command().await;
        telemetry.shutdown();
        outcome
    });
    // Without waiting for work that nobody wants any more.
    runtime.shutdown_background();
    outcome
}
