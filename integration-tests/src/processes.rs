//! The services as processes of their own, on ports that the system chose.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use reverie_service_kit::Address;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic_health::ServingStatus;

use crate::{Fallible, WORKSPACE, health};

/// How long a process may take to say where it listens, or to end.
const PATIENCE: Duration = Duration::from_mins(1);
/// A log is a file, which tells nobody of its changes.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The command that runs `service` at the root of the workspace, where its default settings find the bundle. Each of
/// `settings` is a KEY=VALUE.
pub fn command(service: &str, settings: &[String]) -> Fallible<Command> {
    let mut command = Command::new(binary(&format!("reverie-{service}"))?);
    command.current_dir(WORKSPACE).stdin(Stdio::null()).kill_on_drop(true);
    command.args(["--set", "server.listen=127.0.0.1:0"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    Ok(command)
}

/// The command that runs `reverie serve`, the mesh in one process, which listens on `listen`.
pub fn serve_command(listen: &str) -> Fallible<Command> {
    let mut command = Command::new(binary("reverie")?);
    command.current_dir(WORKSPACE).stdin(Stdio::null()).kill_on_drop(true);
    command.args(["serve", "--listen", listen]);
    Ok(command)
}

/// A program of the workspace. It lies in target/PROFILE, the test that asks in target/PROFILE/deps.
pub fn binary(name: &str) -> Fallible<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).ok_or("the test lies in no target folder")?;
    let binary = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if binary.is_file() {
        Ok(binary)
    } else {
        let how = "run `cargo xtask test`, or `cargo build --workspace --bins` first";
        Err(format!("{} is not built: {how}", binary.display()).into())
    }
}

/// One service process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    service: &'static str,
    command: Command,
    child: Child,
    /// HOST:PORT, as it said itself.
    listens: String,
    log: NamedTempFile,
}

impl Process {
    /// Starts it and waits until it says where it listens; its models may still be loading.
    pub async fn start(service: &'static str, settings: &[String]) -> Fallible<Self> {
        Self::spawn(service, command(service, settings)?).await
    }

    /// Starts `reverie serve`, the mesh in one process, and waits until it says where it listens.
    pub async fn serve() -> Fallible<Self> {
        Self::spawn("mesh", serve_command("127.0.0.1:0")?).await
    }

    /// Runs `command` and waits until it says where it listens.
    pub async fn spawn(service: &'static str, mut command: Command) -> Fallible<Self> {
        let log = NamedTempFile::new()?;
        let mut child = command.stdout(Stdio::piped()).stderr(log.reopen()?).spawn()?;
        let stdout = child.stdout.take().ok_or("its output is not piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
        match line.as_deref().and_then(|line| line.strip_prefix("listening on ")) {
            Some(listens) => Ok(Self { service, command, child, listens: listens.to_owned(), log }),
            None => Err(format!("{service} said {line:?}, not where it listens\n{}", read(&log)).into()),
        }
    }

    /// Starts it again as it was started, where it listened, and waits until it serves; gives the time that took. It must have ended.
    pub async fn start_again(&mut self) -> Fallible<Duration> {
        let begun = Instant::now();
        self.begin_again().await?;
        self.serving().await?;
        Ok(begun.elapsed())
    }

    /// The same, and waits only until it listens.
    pub async fn begin_again(&mut self) -> Fallible<()> {
        let mut command = std::mem::replace(&mut self.command, Command::new("false"));
        command.args(["--set", &format!("server.listen={}", self.listens)]);
        *self = Self::spawn(self.service, command).await?;
        Ok(())
    }

    /// The service's name.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// HOST:PORT.
    pub fn listens(&self) -> &str {
        &self.listens
    }

    /// How it is reached, for settings.
    pub fn url(&self) -> String {
        format!("http://{}", self.listens)
    }

    /// How it is reached.
    pub fn address(&self) -> Fallible<Address> {
        Ok(self.url().parse()?)
    }

    /// Waits until its log has `text`.
    pub async fn says(&self, text: &str) -> Fallible<()> {
        let said = async {
            while !read(&self.log).contains(text) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let why = |_| format!("{} does not say {text:?}\n{}", self.service, read(&self.log));
        Ok(tokio::time::timeout(PATIENCE, said).await.map_err(why)?)
    }

    /// Its resident memory, bytes; Linux only.
    pub fn resident_bytes(&self) -> Fallible<u64> {
        let id = self.id()?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(1024 * line.split_whitespace().next().ok_or("no number")?.parse::<u64>()?)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until it serves, or ends and says why.
    pub async fn serving(&mut self) -> Fallible<()> {
        let address = self.address()?;
        let outcome = tokio::select! {
            outcome = health::becomes(&address, ServingStatus::Serving) => outcome,
            status = self.child.wait() => Err(format!("it ended: {}", status?).into()),
        };
        outcome.map_err(|error| format!("{}: {error}\n{}", self.service, read(&self.log)).into())
    }

    /// Waits until its program, started beside it with the same settings, finds it healthy: also where TLS lets no stranger ask.
    pub async fn ready(&mut self) -> Fallible<()> {
        let begun = Instant::now();
        loop {
            let found = self.check_health().await?;
            if found.status.success() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE || !self.is_running()? {
                let told = String::from_utf8_lossy(&found.stderr);
                return Err(format!("{}: {told}\n{}", self.service, read(&self.log)).into());
            }
        }
    }

    /// What its program, started beside it with the same settings, says of its health.
    pub async fn check_health(&self) -> Fallible<Output> {
        let own = self.command.as_std();
        let mut check = Command::new(own.get_program());
        check.current_dir(WORKSPACE).args(own.get_args());
        check.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        check.args(["--set", &format!("server.listen={}", self.listens), "--check-health"]);
        Ok(check.output().await?)
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> Fallible<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Its process id.
    pub fn id(&self) -> Fallible<u32> {
        self.child.id().ok_or_else(|| format!("{} has ended already", self.service).into())
    }

    /// Kills it without a warning, as `kill -9` does.
    pub async fn kill(&mut self) -> Fallible<()> {
        Ok(self.child.kill().await?)
    }

    /// Sends SIGTERM and waits for its end.
    pub async fn terminate(&mut self) -> Fallible<ExitStatus> {
        self.signal().await?;
        self.ended().await
    }

    /// Sends SIGTERM.
    pub async fn signal(&self) -> Fallible<()> {
        self.send("TERM").await
    }

    /// Stops it, so that it holds its connections and does nothing, until it is resumed.
    pub async fn pause(&self) -> Fallible<()> {
        self.send("STOP").await
    }

    /// Lets it go on.
    pub async fn resume(&self) -> Fallible<()> {
        self.send("CONT").await
    }

    async fn send(&self, signal: &str) -> Fallible<()> {
        send(signal, self.id()?).await.map_err(|error| format!("{}: {error}", self.service).into())
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Fallible<ExitStatus> {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => Err(format!("{} runs on\n{}", self.service, read(&self.log)).into()),
        }
    }
}

/// Sends a signal, such as TERM, to the process `id`.
pub async fn send(signal: &str, id: u32) -> Fallible<()> {
    let sent = Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status().await?;
    if sent.success() { Ok(()) } else { Err(format!("SIG{signal} was not sent: {sent}").into()) }
}

fn read(log: &NamedTempFile) -> String {
    std::fs::read_to_string(log.path()).unwrap_or_else(|error| error.to_string())
}

/// The six services. Dropping it kills them.
#[derive(Debug)]
pub struct Processes {
    /// Encoder.
    pub encoder: Process,
    /// Vector.
    pub vector: Process,
    /// Denoiser.
    pub denoiser: Process,
    /// Super-resolution.
    pub super_resolution: Process,
    /// Retrieval.
    pub retrieval: Process,
    /// Pipeline.
    pub pipeline: Process,
}

impl Processes {
    /// Starts all, each with `settings`, and waits until all of them serve.
    pub async fn start(settings: &[String]) -> Fallible<Self> {
        Self::start_as(settings, Ok).await
    }

    /// The same with commands that `prepare` changes.
    pub async fn start_as(
        settings: &[String],
        prepare: impl Fn(Command) -> Fallible<Command>,
    ) -> Fallible<Self> {
        let start = async |service, settings: &[String]| {
            Process::spawn(service, prepare(command(service, settings)?)?).await
        };
        let (encoder, vector, denoiser, super_resolution) = tokio::try_join!(
            start("encoder", settings),
            start("vector", settings),
            start("denoiser", settings),
            start("super-resolution", settings),
        )?;
        let with = |stages: &[String]| [settings, stages].concat();
        let stages = [format!("stages.encoder={}", encoder.url()), format!("stages.vector={}", vector.url())];
        let retrieval = start("retrieval", &with(&stages)).await?;
        let stages = [
            format!("stages.encoder={}", encoder.url()),
            format!("stages.retrieval={}", retrieval.url()),
            format!("stages.denoiser={}", denoiser.url()),
            format!("stages.super_resolution=[\"{}\"]", super_resolution.url()),
        ];
        let pipeline = start("pipeline", &with(&stages)).await?;
        let mut processes = Self { encoder, vector, denoiser, super_resolution, retrieval, pipeline };
        try_join_all(processes.all().map(Process::serving)).await?;
        Ok(processes)
    }

    /// All of them, the pipeline first.
    pub fn all(&mut self) -> [&mut Process; 6] {
        let Self { encoder, vector, denoiser, super_resolution, retrieval, pipeline } = self;
        [pipeline, encoder, retrieval, vector, denoiser, super_resolution]
    }
}
