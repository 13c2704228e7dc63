//! Programs that run until they are no longer needed, each with a log.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait;

/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Background {
    name: String,
    process: Child,
    log: PathBuf,
}

impl Background {
    /// Starts it; its standard error goes to `folder/NAME.log`.
    pub(crate) fn start(name: &str, program: &mut Command, folder: &Path) -> io::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        Ok(Self { name: name.to_owned(), process: program.spawn()?, log })
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `is_ready` says so.
    pub(crate) fn wait_until(
        &mut self,
        bound: Duration,
        is_ready: impl Fn() -> bool,
    ) -> Result<(), Box<dyn Error>> {
        let ready = wait::until(&self.name, bound, || {
            let has_ended = matches!(self.process.try_wait(), Ok(Some(_)));
            if has_ended { Some(false) } else { is_ready().then_some(true) }
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{} ended:\n{}", self.name, self.log()).into()),
            Err(error) => Err(format!("{error}\n{}", self.log()).into()),
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        // Its id cannot have gone to another process: it is our child, and not waited for yet.
        Command::new("kill").arg(self.process.id().to_string()).status().map(drop)
    }

    /// Waits for its end, which must be a success.
    pub(crate) fn ended(&mut self) -> Result<(), Box<dyn Error>> {
        let status =
            wait::until(&format!("{} to end", self.name), PATIENCE, || self.process.try_wait().transpose())??;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{} ended with {status}:\n{}", self.name, self.log()).into())
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
