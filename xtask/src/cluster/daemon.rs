//! Programs that run while the cluster is up: each with a log, ended by its process id.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A running program.
#[derive(Debug)]
pub(super) struct Daemon {
    name: String,
    process: Child,
}

impl Daemon {
    /// Starts `program` in a network namespace; what it prints goes to `logs/NAME.log`.
    ///
    /// It gets SIGTERM should this process die, however it dies. It is in a process group of its own, so that Ctrl-C on
    /// the terminal does not end it before the pods.
    pub(super) fn start(name: &str, namespace: &str, program: &Command, logs: &Path) -> io::Result<Self> {
        fs::create_dir_all(logs)?;
        let log = File::create(logs.join(format!("{name}.log")))?;
        // Not `ip netns exec`, which mounts another /sys and so hides the cgroups. Both commands replace themselves by
        // the next, so the process id stays.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}"));
        command.args(["setpriv", "--pdeathsig", "TERM"]).arg(program.get_program()).args(program.get_args());
        for (key, value) in program.get_envs() {
            if let Some(value) = value {
                command.env(key, value);
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Ok(Self { name: name.to_owned(), process: command.spawn()? })
    }

    /// What it was started as.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has ended, which no daemon should while the cluster is up.
    pub(super) fn has_ended(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(Some(_)))
    }

    /// Ends it: SIGTERM, and SIGKILL if that does not help.
    pub(super) fn stop(&mut self) {
        // Its id cannot have gone to another process: it is our child, and not waited for yet.
        let asked = Command::new("kill").arg(self.process.id().to_string()).stderr(Stdio::null()).status();
        let began = Instant::now();
        while asked.is_ok() && began.elapsed() < PATIENCE {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ignores_sigterm_is_killed() {
        let mut command = Command::new("sh");
        // `exec` would lose the trap: the shell itself must stay.
        let process =
            command.args(["-c", "trap '' TERM; while :; do read -r line; done < /dev/zero"]).spawn().unwrap();
        let id = process.id();
        let mut daemon = Daemon { name: "stubborn".to_owned(), process };
        daemon.stop();
        assert!(daemon.has_ended());
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
