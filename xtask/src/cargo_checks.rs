//! The checks that come with the toolchain: formatting, lints, documentation.

use std::env;

use crate::workspace::Workspace;
use crate::{Outcome, process};

/// `cargo fmt --check` over every member.
pub(crate) fn fmt(workspace: &Workspace) -> Outcome {
    ensure_component(workspace, "rustfmt", "fmt")?;
    process::run(workspace.cargo("fmt").args(["--all", "--check"]))?;
    Ok(())
}

/// `cargo clippy` over every target of every member, warnings denied.
pub(crate) fn clippy(workspace: &Workspace) -> Outcome {
    ensure_component(workspace, "clippy", "clippy")?;
    process::run(workspace.cargo("clippy").args([
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(())
}

/// `cargo doc` of every member, warnings denied.
pub(crate) fn doc(workspace: &Workspace) -> Outcome {
    let flags = deny_warnings(env::var("RUSTDOCFLAGS").ok());
    process::run(
        workspace.cargo("doc").args(["--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", flags),
    )?;
    Ok(())
}

/// A minimal toolchain lacks rustfmt and clippy; rustup can add them.
fn ensure_component(workspace: &Workspace, component: &str, subcommand: &str) -> Outcome {
    if !process::succeeds(workspace.cargo(subcommand).arg("--version")) {
        process::run(workspace.command("rustup").args(["component", "add", component]))?;
    }
    Ok(())
}

fn deny_warnings(flags: Option<String>) -> String {
    flags.map_or_else(|| "-D warnings".to_owned(), |flags| format!("{flags} -D warnings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_s_flags_are_kept() {
        assert_eq!(deny_warnings(None), "-D warnings");
        assert_eq!(deny_warnings(Some("--cfg docsrs".to_owned())), "--cfg docsrs -D warnings");
    }
}
