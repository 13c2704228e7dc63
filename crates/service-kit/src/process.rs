//! The life of a service process: flags, settings, telemetry, signals, exit code.

use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use reverie_storage::Storage;

use crate::settings::{self, ServiceSettings, Sources};
use crate::telemetry::Telemetry;
use crate::tls::{ClientTls, ClientTlsSettings};
use crate::{Listener, RunError, Shutdown, admin, output, say, self_check, tls};

#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    sources: Sources,
    /// Prints the commented default settings and exits.
    #[arg(long)]
    print_default_settings: bool,
    /// Asks the service that runs with the same settings for its health, and exits: 0 if it is serving, 1 if not.
    #[arg(long)]
    check_health: bool,
}

/// The variable that keeps ONNX Runtime from looking up a host of its maker and from writing to the home folder. The library
/// reads it when it is loaded.
pub const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// Sets up the process: what it loads sends nothing and writes nothing of its own. To be called first in every `main`, before
/// there is another thread.
pub fn begin() {
    #[expect(unsafe_code, reason = "sound while no other thread reads the environment; main has just begun")]
    // SAFETY: no other thread exists yet.
    unsafe {
        std::env::set_var(NO_TELEMETRY, "1");
    }
}

/// Whether a server of this process has begun to serve. Before that, there is nothing to drain.
static SERVES: AtomicBool = AtomicBool::new(false);

/// Called when a server begins to serve.
pub(crate) fn has_begun_to_serve() {
    SERVES.store(true, Ordering::Relaxed);
}

/// Ends the process at once. Exit handlers are left out: ONNX Runtime's take its state away, and a forward pass may still run
/// on another thread.
pub fn end(code: u8) -> ! {
    let _ = std::io::stdout().flush();
    #[expect(unsafe_code, reason = "the standard library has no exit without exit handlers")]
    // SAFETY: always sound; what is buffered was written.
    unsafe {
        libc::_exit(i32::from(code))
    }
}

/// Runs the process of one service: reads flags and settings, installs telemetry, binds, calls `run`, and shuts it down
/// on SIGTERM or SIGINT. A second one of them ends it at once, and so does the first while the service still loads its models.
pub fn main<S, R, F>(about: &'static str, run: R) -> ExitCode
where
    S: ServiceSettings,
    R: FnOnce(S, Listener, Shutdown) -> F,
    F: Future<Output = Result<(), RunError>>,
{
    begin();
    let name = format!("reverie-{}", S::SERVICE);
    let command = <Flags as clap::CommandFactory>::command().display_name(&name).bin_name(&name).about(about);
    let matches = command.get_matches();
    let flags = match <Flags as clap::FromArgMatches>::from_arg_matches(&matches) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    if flags.print_default_settings {
        return match output::print(format_args!("{}", settings::defaults::<S>())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => ExitCode::from(output::failed(&name, &error)),
        };
    }
    let outcome =
        if flags.check_health { check_health::<S>(&flags.sources) } else { start(&flags.sources, run) };
    match outcome {
        Ok(()) => end(0),
        Err(error) => end(output::failed(&name, error.as_ref())),
    }
}

fn start<S, R, F>(sources: &Sources, run: R) -> Result<(), Box<dyn std::error::Error>>
where
    S: ServiceSettings,
    R: FnOnce(S, Listener, Shutdown) -> F,
    F: Future<Output = Result<(), RunError>>,
{
    let (settings, effective): (S, _) = settings::load_effective(sources)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::new();
        cancel_on_signal(shutdown.clone());
        let telemetry = Telemetry::install(S::SERVICE, &settings.common().telemetry)?;
        Storage::new(&settings.common().storage).install();
        let tls = &settings.common().client.tls;
        if *tls != ClientTlsSettings::default() {
            tls::install(ClientTls::start(tls).await.map_err(RunError::prepare("client.tls"))?);
        }
        let _admin = admin::start(S::SERVICE, &settings.common().admin, Some(effective.to_string())).await?;
        let address = settings.common().server.listen.clone();
        let listener =
            Listener::bind(&address).await.map_err(|source| RunError::Listen { address, source })?;
        // For scripts and tests that let the system choose the port.
        if let Err(error) = say!("listening on {}", listener.describe()) {
            tracing::warn!(%error, "where the service listens is only in the log");
        }
        let result = run(settings, listener, shutdown).await;
        telemetry.shutdown();
        result.map_err(Into::into)
    });
    // Without waiting for work that nobody wants any more.
    runtime.shutdown_background();
    result
}

fn check_health<S: ServiceSettings>(sources: &Sources) -> Result<(), Box<dyn std::error::Error>> {
    let settings: S = settings::load(sources)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(self_check::run(&settings))?)
}

/// Catches SIGTERM and SIGINT from now on: the first cancels `shutdown`; the second ends the process, and so does the first if no
/// server has begun to serve: with 143 or 130, as a shell tells of a process that the signal ended.
pub fn cancel_on_signal(shutdown: Shutdown) {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!(%error, "signals cannot be caught");
            return;
        }
    };
    tokio::spawn(async move {
        let code = signals.next().await;
        if !SERVES.load(Ordering::Relaxed) {
            tracing::info!("ending while the service starts: no call is in flight");
            end(code)
        }
        shutdown.cancel();
        let code = signals.next().await;
        tracing::warn!("a second signal: ending at once");
        end(code)
    });
}

/// SIGTERM and SIGINT.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one of them; gives the exit code that tells of it.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}
