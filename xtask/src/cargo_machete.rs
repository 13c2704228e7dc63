//! Dependencies that nothing uses, found by a pinned cargo-machete.

use crate::cargo_tool::CargoTool;
use crate::workspace::Workspace;
use crate::{Outcome, process};

const CARGO_MACHETE: CargoTool = CargoTool { name: "cargo-machete", version: "0.9.2" };

/// Fails if a member names a dependency that its code does not.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    let cargo_machete = CARGO_MACHETE.ensure(workspace)?;
    // Not as a subcommand of cargo, whose name it would expect first.
    process::run(workspace.command(&cargo_machete.to_string_lossy()).env_remove("CARGO"))?;
    Ok(())
}
