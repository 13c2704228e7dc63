//! Building programs, and learning from cargo where it put the executables.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use thiserror::Error;

use crate::process::{self, ProcessError};
use crate::workspace::Workspace;

/// The command.
pub(crate) const REVERIE: &str = "reverie";
/// The benchmarks.
pub(crate) const BENCH: &str = "reverie-bench";

/// Why there is no executable.
#[derive(Debug, Error)]
pub(crate) enum BuildError {
    #[error(transparent)]
    Cargo(#[from] ProcessError),
    /// The build passed but reported no such executable.
    #[error("cargo built the package `{0}` but reported no executable of that name")]
    NoExecutable(&'static str),
}

/// How to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// What is measured and demonstrated.
    Release,
    /// What the tests have built already.
    Dev,
}

/// Builds a package, progress on the terminal, and returns its executable, which has the same name.
pub(crate) fn of(
    package: &'static str,
    profile: Profile,
    workspace: &Workspace,
) -> Result<PathBuf, BuildError> {
    let messages = build(&["--package", package], profile, workspace)?;
    executable_in(&messages, package).ok_or(BuildError::NoExecutable(package))
}

/// Builds every program of the workspace, as for the tests, and returns their names and executables.
pub(crate) fn all(profile: Profile, workspace: &Workspace) -> Result<Vec<(String, PathBuf)>, BuildError> {
    let messages = build(&["--workspace", "--bins"], profile, workspace)?;
    Ok(executables_in(&messages).collect())
}

/// Builds what `selection` says; gives the messages of cargo.
fn build(selection: &[&str], profile: Profile, workspace: &Workspace) -> Result<String, ProcessError> {
    let mut build = workspace.cargo("build");
    if profile == Profile::Release {
        build.arg("--release");
    }
    build.args(["--locked", "--message-format=json-render-diagnostics"]).args(selection);
    let output = process::capture(build.stderr(Stdio::inherit()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn executable_in(messages: &str, name: &str) -> Option<PathBuf> {
    executables_in(messages).find_map(|(found, path)| (found == name).then_some(path))
}

/// Cargo writes one JSON message a line; the one for an executable names its path, wherever the target folder is.
fn executables_in(messages: &str) -> impl Iterator<Item = (String, PathBuf)> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter_map(|message| {
        let target = &message["target"];
        let is_one = message["reason"] == "compiler-artifact"
            && target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"));
        let named = target["name"].as_str().zip(message["executable"].as_str());
        named.filter(|_| is_one).map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = concat!(
        r#"{"reason":"build-script-executed","package_id":"ring"}"#,
        "\n",
        r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"reverie"},"executable":null}"#,
        "\n",
        r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"other"},"executable":"/t/other"}"#,
        "\nnot a message\n",
        r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"reverie"},"executable":"/t/release/reverie"}"#,
        "\n",
        r#"{"reason":"build-finished","success":true}"#,
    );

    #[test]
    fn the_executable_is_the_binary_and_not_the_library() {
        assert_eq!(executable_in(MESSAGES, REVERIE), Some(PathBuf::from("/t/release/reverie")));
    }

    #[test]
    fn a_library_alone_is_no_executable() {
        let without: Vec<_> = MESSAGES.lines().filter(|line| !line.contains("/t/release/")).collect();
        assert_eq!(executable_in(&without.join("\n"), REVERIE), None);
    }
}
