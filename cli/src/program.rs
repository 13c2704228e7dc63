//! What every program of the client does around its command: logs, traces, the runtime, the exit status.

use std::sync::Arc;

use reverie_service_kit::telemetry::{LogFormat, Telemetry, TelemetrySettings};
use reverie_service_kit::{output, process};
use reverie_storage::{Storage, StorageSettings};

use crate::Failure;
use crate::progress::TransferBars;

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

/// Where files of object storage are kept.
#[derive(Debug, clap::Args)]
pub struct StorageArguments {
    /// Folder in which files of s3://, gs://, az:// and https:// are kept by their digest [default: storage in the cache folder]
    #[arg(
        long,
        global = true,
        default_value = "",
        value_name = "FOLDER",
        env = "REVERIE_STORAGE_CACHE",
        hide_default_value = true
    )]
    storage_cache: String,
    /// The most that folder may take, GiB; 0 to keep nothing.
    #[arg(long, global = true, default_value_t = StorageSettings::default().cache_gib, value_name = "GIB", env = "REVERIE_STORAGE_CACHE_GIB")]
    storage_cache_gib: u64,
}

/// Runs `command` and ends the process: with status 0, or with 1 after `program` and the reason on standard error.
pub fn run(
    program: &str,
    arguments: TelemetryArguments,
    storage: &StorageArguments,
    command: impl AsyncFnOnce() -> Result<(), Failure>,
) -> ! {
    let settings =
        StorageSettings { cache: storage.storage_cache.clone(), cache_gib: storage.storage_cache_gib };
    Storage::new(&settings).watched_by(Arc::new(TransferBars::default())).install();
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
