//! The dependency rules of deny.toml, checked by a pinned cargo-deny.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::Workspace;
use crate::{Outcome, cache_folder, process};

/// The newest that builds with this workspace's `rust-version`.
const VERSION: &str = "0.20.2";

/// Bans, licences and sources: settled by the lock file and the crates' sources alone.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    run(workspace, &["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
}

/// Known vulnerabilities and withdrawn versions: needs the network, and may change overnight.
pub(crate) fn advisories(workspace: &Workspace) -> Outcome {
    run(workspace, &["--locked", "check", "advisories"])
}

fn run(workspace: &Workspace, arguments: &[&str]) -> Outcome {
    let cargo_deny = ensure(workspace)?;
    process::run(workspace.command(&cargo_deny.to_string_lossy()).args(arguments))?;
    Ok(())
}

/// The pinned cargo-deny: the installed one if it is that version, else one built once into the cache folder, so that
/// no one's own tools are replaced.
fn ensure(workspace: &Workspace) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let installed = PathBuf::from("cargo-deny");
    if is_pinned(&installed) {
        return Ok(installed);
    }
    let root = cache_folder::locate()?.join(format!("cargo-deny-{VERSION}"));
    let own = root.join("bin").join("cargo-deny");
    if !is_pinned(&own) {
        eprintln!("Building cargo-deny {VERSION} into {}: a few minutes, once", root.display());
        process::run(
            workspace
                .cargo("install")
                .args(["--locked", "--version", VERSION, "--root"])
                .arg(&root)
                .arg("cargo-deny"),
        )?;
    }
    Ok(own)
}

fn is_pinned(program: &Path) -> bool {
    process::capture(Command::new(program).arg("--version"))
        .is_ok_and(|output| is_pinned_version(&String::from_utf8_lossy(&output.stdout)))
}

fn is_pinned_version(printed: &str) -> bool {
    printed.split_whitespace().eq(["cargo-deny", VERSION])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_version_counts() {
        assert!(is_pinned_version("cargo-deny 0.20.2\n"));
        assert!(!is_pinned_version("cargo-deny 0.20.20\n"));
        assert!(!is_pinned_version("cargo-deny 0.19.0\n"));
        assert!(!is_pinned_version(""));
    }
}
