//! The guides in docs/guides: their shell blocks are run in order, in one shell that stops at the first command that fails.
//!
//! A block that begins with `sh not-run` in place of `sh` is not run; the text before it says why.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::Outcome;
use crate::process;
use crate::workspace::Workspace;

/// Begins a block that is run.
const FENCE: &str = "```sh";

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
    follow(workspace, "laptop", shell)
}

/// Runs the commands of a guide in `shell`, which is bash. They run in a folder of their own, where what they read of the repository
/// is linked, so that pictures do not end up in it.
pub(crate) fn follow(workspace: &Workspace, guide: &str, mut shell: Command) -> Outcome {
    let script = commands(&fs::read_to_string(workspace.root().join(format!("docs/guides/{guide}.md")))?);
    let folder = tempfile::tempdir()?;
    for entry in ["charts", "docker", "docs", "integration-tests", "models"] {
        symlink(workspace.root().join(entry), folder.path().join(entry))?;
    }
    process::run(shell.args(["-euxo", "pipefail", "-c", &script]).current_dir(folder.path()))?;
    Ok(())
}

/// The blocks of a guide that are run, one after another.
fn commands(guide: &str) -> String {
    let mut script = String::new();
    let mut runs = false;
    for line in guide.lines() {
        if line.trim_start().starts_with("```") {
            runs = !runs && line.trim() == FENCE;
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
    fn blocks_of_the_shell_are_run_in_order() {
        let guide =
            "One:\n```sh\na\nb\n```\nThen\n```text\nno\n```\n```sh not-run\nno\n```\n```sh\nlast\n```\n";
        assert_eq!(commands(guide), "a\nb\nlast\n");
    }

    /// A guide whose blocks are all marked otherwise would pass without running anything.
    #[test]
    fn every_guide_has_commands_that_a_shell_can_read() {
        let guides = Workspace::locate().root().join("docs/guides");
        for guide in fs::read_dir(guides).unwrap().map(|entry| entry.unwrap().path()) {
            let script = commands(&fs::read_to_string(&guide).unwrap());
            assert!(!script.trim().is_empty(), "{} has no commands", guide.display());
            let mut shell = std::process::Command::new("bash");
            shell.args(["-n", "-c", &script]);
            assert!(process::succeeds(&mut shell), "{}:\n{script}", guide.display());
        }
    }
}
