//! The guides in docs/guides: their shell blocks are run in order, in one shell that stops at the first command that fails.
//!
//! A block that begins with `sh not-run` in place of `sh` is not run; the text before it says why. One that begins with `sh` and the
//! name of an extra is run where there is that.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use crate::workspace::Workspace;
use crate::{Outcome, process, wait};

/// How long a guide may take.
const PATIENCE: Duration = Duration::from_mins(15);
/// Begins a block that is run, perhaps with the name of an extra.
const FENCE: &str = "```sh";
/// What some blocks need that not every place has: the kinds of KEDA, cert-manager and the Prometheus operator.
pub(crate) const OPERATORS: &str = "operators";
/// A volume that pods on all nodes can write.
pub(crate) const SHARED_VOLUME: &str = "shared-volume";

/// Follows the guide to the laptop with the programs that `cargo xtask test` builds.
pub(crate) fn follow_laptop(workspace: &Workspace) -> Outcome {
    crate::onnxruntime::ensure()?;
    process::run(workspace.cargo("build").args(["--package", "reverie", "--locked"]))?;
    // Its programs are found before others.
    let path = env::var_os("PATH").unwrap_or_default();
    let programs = workspace.root().join("target/debug");
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&path)))?;
    let mut shell = workspace.command("bash");
    shell.env("PATH", path);
    follow(workspace, "laptop", shell, &[])
}

/// Runs the commands of a guide in `shell`, which is bash, where there are these extras. They run in a folder of their own, where what
/// they read of the repository is linked, so that pictures do not end up in it.
pub(crate) fn follow(workspace: &Workspace, guide: &str, mut shell: Command, extras: &[&str]) -> Outcome {
    let guide_file = workspace.root().join(format!("docs/guides/{guide}.md"));
    let script = commands(&fs::read_to_string(guide_file)?, extras);
    let folder = tempfile::tempdir()?;
    for entry in ["charts", "docker", "docs", "integration-tests", "models"] {
        symlink(workspace.root().join(entry), folder.path().join(entry))?;
    }
    run_within(shell.args(["-euxo", "pipefail", "-c", &script]).current_dir(folder.path()), PATIENCE)
        .map_err(|error| format!("docs/guides/{guide}.md: {error}").into())
}

/// Runs a shell; after `time` it is ended, with everything that it started.
fn run_within(shell: &mut Command, time: Duration) -> Outcome {
    let mut shell = shell.process_group(0).spawn()?;
    let ended = wait::until("its commands", time, || match shell.try_wait() {
        Ok(None) => None,
        ended => Some(ended),
    });
    if ended.is_err() {
        let _ = process::capture(Command::new("kill").args(["-KILL", "--", &format!("-{}", shell.id())]));
        let _ = shell.wait();
    }
    match ended?? {
        Some(status) if status.success() => Ok(()),
        status => Err(format!("ended with {}", status.unwrap_or_default()).into()),
    }
}

/// The blocks of a guide that are run where there are these extras, one after another.
fn commands(guide: &str, extras: &[&str]) -> String {
    let mut script = String::new();
    let mut runs = false;
    for line in guide.lines() {
        if line.trim_start().starts_with("```") {
            let needs = line.trim().strip_prefix(FENCE).map(str::trim);
            runs = !runs && needs.is_some_and(|needs| needs.is_empty() || extras.contains(&needs));
        } else if runs {
            script.push_str(line);
            script.push('\n');
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guide_that_hangs_is_ended_and_told() {
        let bash = |script: &str| {
            let mut bash = Command::new("bash");
            bash.args(["-c", script]);
            bash
        };
        let error = run_within(&mut bash("sleep 600 & wait"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("its commands"), "{error}");
        assert!(run_within(&mut bash("exit 3"), PATIENCE).unwrap_err().to_string().contains('3'));
        run_within(&mut bash("true"), PATIENCE).unwrap();
    }

    #[test]
    fn blocks_of_the_shell_are_run_in_order() {
        let guide = "One:\n```sh\na\nb\n```\nThen\n```text\nno\n```\n```sh not-run\nno\n```\n```sh operators\nc\n```\n\
                     ```sh\nlast\n```\n";
        assert_eq!(commands(guide, &[]), "a\nb\nlast\n");
        assert_eq!(commands(guide, &[SHARED_VOLUME]), "a\nb\nlast\n");
        assert_eq!(commands(guide, &[OPERATORS]), "a\nb\nc\nlast\n");
    }

    /// A guide whose blocks are all marked otherwise would pass without running anything.
    #[test]
    fn every_guide_has_commands_that_a_shell_can_read() {
        let guides = Workspace::locate().root().join("docs/guides");
        for guide in fs::read_dir(guides).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(&guide).unwrap();
            let script = commands(&text, &[OPERATORS, SHARED_VOLUME]);
            assert!(!script.trim().is_empty(), "{} has no commands", guide.display());
            // A word that nobody knows would leave its block out everywhere.
            for needs in text.lines().filter_map(|line| line.trim().strip_prefix(FENCE)) {
                assert!(["", "not-run", OPERATORS, SHARED_VOLUME].contains(&needs.trim()), "{needs}");
            }
            let mut shell = std::process::Command::new("bash");
            shell.args(["-n", "-c", &script]);
            assert!(process::succeeds(&mut shell), "{}:\n{script}", guide.display());
        }
    }
}
