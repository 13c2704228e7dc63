//! Docker with Compose: the one that runs here, or, for root on Linux, one that is started for the test and ends with it.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::images::fresh;
use crate::process;

/// For a daemon to answer.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A Docker that answers.
#[derive(Debug)]
pub(super) struct Docker {
    own: Option<Daemon>,
}

#[derive(Debug)]
struct Daemon {
    process: Child,
    folder: PathBuf,
}

impl Docker {
    /// The Docker of this machine, or one of our own below `folder`. Without either, what is missing.
    pub(super) fn find(folder: &Path) -> Result<Result<Self, String>, Box<dyn Error>> {
        let here = Self { own: None };
        if !process::succeeds(here.command().args(["compose", "version"])) {
            return Ok(Err("Docker with the plugin Compose (2.20 or later) is not installed".to_owned()));
        }
        if process::succeeds(
            here.command().arg("info").arg("--format={{.ServerVersion}}").env("DOCKER_CLI_HINTS", "0"),
        ) && process::succeeds(here.command().arg("ps"))
        {
            return Ok(Ok(here));
        }
        if process::find("dockerd").is_none() {
            return Ok(Err(
                "no Docker daemon answers, and there is no dockerd to start: apt install docker.io"
                    .to_owned(),
            ));
        }
        Ok(Ok(Self { own: Some(Daemon::start(&folder.join("docker"))?) }))
    }

    /// `docker`, talking to this daemon.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.envs(self.environment());
        command
    }

    /// What programs that call `docker` need to find this one.
    pub(super) fn environment(&self) -> Option<(&'static str, String)> {
        self.own.as_ref().map(|daemon| ("DOCKER_HOST", daemon.address()))
    }
}

impl Daemon {
    fn start(folder: &Path) -> Result<Self, Box<dyn Error>> {
        fresh(folder)?;
        let log = fs::File::create(folder.join("log"))?;
        // It changes no rule of the firewall: containers reach each other and the loopback, and nothing reaches them.
        let process = Command::new("dockerd")
            .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none"])
            .arg("--host")
            .arg(format!("unix://{}", folder.join("socket").display()))
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let daemon = Self { process, folder: folder.to_path_buf() };
        let began = Instant::now();
        while !process::succeeds(Command::new("docker").arg("ps").env("DOCKER_HOST", daemon.address())) {
            if began.elapsed() > PATIENCE {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                return Err(format!("dockerd does not answer after {PATIENCE:?}:\n{log}").into());
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(daemon)
    }

    fn address(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM lets it end its containers and unmount their files.
        let _ = process::capture(Command::new("kill").arg(self.process.id().to_string()));
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
