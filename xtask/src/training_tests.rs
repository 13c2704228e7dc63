//! The Python tests of models/training, in an environment of their own.

use crate::workspace::Workspace;
use crate::{Outcome, process, python_environment};

/// Runs pytest.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let folder = workspace.root().join("models/training");
    let what = "the tests of models/training";
    let Some(python) = python_environment::make(workspace, "training", &folder, what)? else { return Ok(()) };
    let mut pytest = workspace.command(&python.to_string_lossy());
    process::run(pytest.args(["-m", "pytest", "-q", "tests"]).current_dir(folder))?;
    Ok(())
}
