//! The benchmarks of the whole mesh, run again whenever someone wants the numbers.

use std::process::Command;

use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, cargo_build, process};

/// Builds in release and runs `reverie-bench` with the caller's arguments, in the caller's folder.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Outcome {
    let library = onnxruntime::ensure()?;
    let bench = cargo_build::of(cargo_build::BENCH, cargo_build::Profile::Release, workspace)?;
    process::run(Command::new(bench).args(args).env(ORT_DYLIB_PATH, library))?;
    Ok(())
}
