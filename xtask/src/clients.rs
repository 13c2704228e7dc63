//! The client libraries: what is generated is up to date, types and style are right, and they work with a mesh.

use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, process, python_environment};

/// Checks clients/python, and runs its tests with the `reverie` of this workspace.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let folder = workspace.root().join("clients/python");
    let what = "the checks of clients/python";
    let Some(python) = python_environment::make(workspace, "clients", &folder, what)? else { return Ok(()) };
    let library = onnxruntime::ensure()?;
    process::run(workspace.cargo("build").args(["--workspace", "--bins", "--locked"]))?;
    let checks: [&[&str]; 5] = [
        &["generate.py", "--check"],
        &["-m", "ruff", "format", "--check", "--quiet", "."],
        &["-m", "ruff", "check", "--quiet", "."],
        &["-m", "mypy"],
        &["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
    ];
    for check in checks {
        let mut command = workspace.command(&python.to_string_lossy());
        // It is tested as it lies here, without being installed.
        command.args(check).current_dir(&folder).env("PYTHONPATH", "src").env("PYTHONDONTWRITEBYTECODE", "1");
        process::run(command.env(ORT_DYLIB_PATH, &library))?;
    }
    Ok(())
}
