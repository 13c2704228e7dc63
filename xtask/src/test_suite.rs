//! Every test: unit, contract, and integration in one process and across real processes.

use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, process};

/// Builds the services first, since the integration tests start them as processes, then runs `cargo test`.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Outcome {
    let library = onnxruntime::ensure()?;
    process::run(workspace.cargo("build").args(["--workspace", "--bins", "--locked"]))?;
    process::run(
        workspace.cargo("test").args(["--workspace", "--locked"]).args(args).env(ORT_DYLIB_PATH, library),
    )?;
    Ok(())
}
