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

/// Runs the test programs of these names alone, with what they print, made longer by environment variables.
pub(crate) fn run_at_length(
    workspace: &Workspace,
    programs: &[&str],
    variables: &[(&str, Option<String>)],
) -> Outcome {
    let mut test = prepare(workspace)?;
    test.args(programs.iter().flat_map(|name| ["--test", name])).args(["--", "--nocapture"]);
    test.envs(variables.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
    process::run(&mut test)?;
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
