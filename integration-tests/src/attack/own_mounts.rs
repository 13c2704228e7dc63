//! A mount namespace for a test alone, where it may mount a small disk that can be filled up (Linux).

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::Fallible;

/// Set where there is one.
const HERE: &str = "REVERIE_TEST_OWN_MOUNTS";

/// Whether this process has mounts of its own.
pub(super) fn are_here() -> bool {
    std::env::var_os(HERE).is_some()
}

/// Runs the test of this name again with mounts of its own, and gives how that ended; nothing if this is that run, or where the system
/// does not allow it.
pub fn run_within(test: &str) -> Fallible<Option<bool>> {
    let is_allowed = || unshare(OsStr::new("true"), &[]).stderr(Stdio::null()).status();
    if are_here() || !is_allowed().is_ok_and(|ended| ended.success()) {
        return Ok(None);
    }
    let exe = std::env::current_exe()?;
    let mut again = unshare(exe.as_os_str(), &[test, "--exact", "--nocapture"]);
    Ok(Some(again.env(HERE, "1").status()?.success()))
}

fn unshare(program: &OsStr, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "--kill-child"]).arg(program).args(arguments);
    command
}
