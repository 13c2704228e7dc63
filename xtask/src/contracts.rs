//! The contracts in protos/, linted and built by buf, which comes from the npm registry.

use crate::Outcome;
use crate::process::{self, ProcessError};
use crate::workspace::Workspace;

/// The pinned buf, as npx names it.
const BUF: &str = "@bufbuild/buf@1.75.0";

/// `buf lint`, then `buf build`, with the rules of protos/buf.yaml.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    for task in ["lint", "build"] {
        let mut buf = workspace.command("npx");
        buf.args(["--yes", BUF, task]).current_dir(workspace.root().join("protos"));
        process::run(&mut buf).map_err(|error| match error {
            ProcessError::NotFound { .. } => {
                "buf runs through npx: install Node.js 18 or later with npm".into()
            }
            other => Box::<dyn std::error::Error>::from(other),
        })?;
    }
    Ok(())
}
