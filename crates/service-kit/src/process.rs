//! The life of a service process: flags, settings, telemetry, signals, exit code.

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;

use crate::settings::{self, ServiceSettings, Sources};
use crate::telemetry::Telemetry;
use crate::{Listener, RunError, Shutdown, output, say};

#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    sources: Sources,
    /// Prints the commented default settings and exits.
    #[arg(long)]
    print_default_settings: bool,
}

/// Runs the process of one service: reads flags and settings, installs telemetry, binds, calls `run`, and shuts it down
/// on SIGTERM or SIGINT.
pub fn main<S, R, F>(about: &'static str, run: R) -> ExitCode
where
    S: ServiceSettings,
    R: FnOnce(S, Listener, Shutdown) -> F,
    F: Future<Output = Result<(), RunError>>,
{
    let name = format!("reverie-{}", S::SERVICE);
    let command = <Flags as clap::CommandFactory>::command().display_name(&name).bin_name(&name).about(about);
    let matches = command.get_matches();
    let flags = match <Flags as clap::FromArgMatches>::from_arg_matches(&matches) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    if flags.print_default_settings {
        return match output::print(format_args!("{}", S::DEFAULTS)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::failed(&name, &error),
        };
    }
    match start(&flags.sources, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::failed(&name, error.as_ref()),
    }
}

fn start<S, R, F>(sources: &Sources, run: R) -> Result<(), Box<dyn std::error::Error>>
where
    S: ServiceSettings,
    R: FnOnce(S, Listener, Shutdown) -> F,
    F: Future<Output = Result<(), RunError>>,
{
    let settings: S = settings::load(sources)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let telemetry = Telemetry::install(S::SERVICE, settings.telemetry())?;
        let address = settings.server().listen;
        let listener =
            Listener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
        // For scripts and tests that let the system choose the port.
        if let Err(error) = say!("listening on {}", listener.describe()) {
            tracing::warn!(%error, "where the service listens is only in the log");
        }
        let shutdown = Shutdown::new();
        tokio::spawn(cancel_on_signal(shutdown.clone()));
        let result = run(settings, listener, shutdown).await;
        telemetry.shutdown();
        result.map_err(Into::into)
    })
}

/// Cancels `shutdown` on the first SIGTERM or SIGINT.
pub async fn cancel_on_signal(shutdown: Shutdown) {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be caught");
                let _ = interrupt.await;
            }
        }
    }
    #[cfg(not(unix))]
    let _ = interrupt.await;
    shutdown.cancel();
}
