//! The dependency rules of deny.toml, checked by a pinned cargo-deny.

use crate::cargo_tool::CargoTool;
use crate::workspace::Workspace;
use crate::{Outcome, process};

const CARGO_DENY: CargoTool = CargoTool { name: "cargo-deny", version: "0.20.2" };

/// Bans, licences and sources: settled by the lock file and the crates' sources alone.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    run(workspace, &["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
}

/// Known vulnerabilities and withdrawn versions: needs the network, and may change overnight.
pub(crate) fn advisories(workspace: &Workspace) -> Outcome {
    run(workspace, &["--locked", "check", "advisories"])
}

fn run(workspace: &Workspace, arguments: &[&str]) -> Outcome {
    let cargo_deny = CARGO_DENY.ensure(workspace)?;
    process::run(workspace.command(&cargo_deny.to_string_lossy()).args(arguments))?;
    Ok(())
}
