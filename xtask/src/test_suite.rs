//! Every test: unit, contract, and integration in one process and across real processes.

use std::error::Error;
use std::process::Command;

use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, process};

/// Runs all of them.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Outcome {
    process::run(prepare(workspace)?.args(args))?;
    Ok(())
}

/// Builds the services, since the integration tests start them as processes, and gives the `cargo test` that further arguments go to.
pub(crate) fn prepare(workspace: &Workspace) -> Result<Command, Box<dyn Error>> {
    let library = onnxruntime::ensure()?;
    process::run(workspace.cargo("build").args(["--workspace", "--bins", "--locked"]))?;
    let mut test = workspace.cargo("test");
    test.args(["--workspace", "--locked"]).env(ORT_DYLIB_PATH, library);
    Ok(test)
}
