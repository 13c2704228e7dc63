//! The mesh beside what one would write in Python, on one machine in one run.

use std::ffi::OsString;

use crate::cargo_build::{self, Profile};
use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, process, python_environment};

/// Builds in release, fetches what the peers run with, and runs bench/peers/compare.py with the caller's arguments.
pub(crate) fn compare(workspace: &Workspace, args: &[String]) -> Outcome {
    let bench = cargo_build::of(cargo_build::BENCH, Profile::Release, workspace)?;
    run(workspace, "bench/peers", &["--mesh".into(), bench.into()], args)
}

/// The same for bench/peers/imported/compare.py, whose model is exported and imported first.
pub(crate) fn compare_imported(workspace: &Workspace, args: &[String]) -> Outcome {
    let bench = cargo_build::of(cargo_build::BENCH, Profile::Release, workspace)?;
    let reverie = cargo_build::of(cargo_build::REVERIE, Profile::Release, workspace)?;
    let programs = ["--bench".into(), bench.into(), "--reverie".into(), reverie.into()];
    run(workspace, "bench/peers/imported", &programs, args)
}

/// The same for bench/peers/vectors/compare.py, where the peers are libraries that search vectors.
pub(crate) fn compare_vectors(workspace: &Workspace, args: &[String]) -> Outcome {
    let bench = cargo_build::of(cargo_build::BENCH, Profile::Release, workspace)?;
    run(workspace, "bench/peers/vectors", &["--bench".into(), bench.into()], args)
}

fn run(workspace: &Workspace, folder: &str, programs: &[OsString], args: &[String]) -> Outcome {
    let library = onnxruntime::ensure()?;
    let name = folder.trim_start_matches("bench/").replace('/', "-");
    let folder = workspace.root().join(folder);
    let Some(python) = python_environment::make(workspace, &name, &folder, "the peers")? else {
        return Err("the peers are written in Python".into());
    };
    let mut compare = workspace.command(&python.to_string_lossy());
    compare.arg(folder.join("compare.py")).args(programs).args(args);
    process::run(compare.env(ORT_DYLIB_PATH, library))?;
    Ok(())
}
