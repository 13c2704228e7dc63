//! The mesh beside services written in Python, on one machine in one run.

use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, cargo_build, process, python_environment};

/// Builds in release, fetches what the peers run with, and runs bench/peers/compare.py with the caller's arguments.
pub(crate) fn compare(workspace: &Workspace, args: &[String]) -> Outcome {
    let folder = workspace.root().join("bench/peers");
    let library = onnxruntime::ensure()?;
    let bench = cargo_build::of(cargo_build::BENCH, cargo_build::Profile::Release, workspace)?;
    let Some(python) = python_environment::make(workspace, "peers", &folder, "the peers")? else {
        return Err("the peers are written in Python".into());
    };
    let mut compare = workspace.command(&python.to_string_lossy());
    compare.arg(folder.join("compare.py")).arg("--mesh").arg(bench).args(args);
    process::run(compare.env(ORT_DYLIB_PATH, library))?;
    Ok(())
}
