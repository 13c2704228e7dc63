//! Building a program, and learning from cargo where it put the executable.

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
    let mut build = workspace.cargo("build");
    if profile == Profile::Release {
        build.arg("--release");
    }
    build
        .args(["--locked", "--package", package, "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let output = process::capture(&mut build)?;
    let messages = String::from_utf8_lossy(&output.stdout);
    executable_in(&messages, package).ok_or(BuildError::NoExecutable(package))
}

/// Cargo writes one JSON message a line; the one for the executable names its path, wherever the target folder is.
fn executable_in(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let target = &message["target"];
        let is_it = message["reason"] == "compiler-artifact"
            && target["name"] == name
            && target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"));
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
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
