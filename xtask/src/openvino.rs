//! The mesh on OpenVINO, by an ONNX Runtime that has it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::Workspace;
use crate::{Outcome, python_environment, test_suite};

/// Names the library to the tests.
const LIBRARY: &str = "REVERIE_OPENVINO_LIBRARY";

/// Fetches the library into the cache folder and runs the tests that take it; says so where there is none for this machine.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        eprintln!("OpenVINO's ONNX Runtime is packed for Linux on x86-64 alone: its tests are left out");
        return Ok(());
    }
    let folder = workspace.root().join("integration-tests/openvino");
    let Some(python) = python_environment::make(workspace, "openvino", &folder, "the tests on OpenVINO")?
    else {
        return Ok(());
    };
    let environment = python.parent().and_then(Path::parent).ok_or("the environment has no folder")?;
    let library = library(environment)?;
    eprintln!("{}", library.display());
    let variables = [(LIBRARY, Some(library.display().to_string()))];
    test_suite::run_at_length(workspace, &["openvino"], &variables)
}

/// The library in a virtual environment.
fn library(environment: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    for python in fs::read_dir(environment.join("lib"))? {
        let folder = python?.path().join("site-packages/onnxruntime/capi");
        let Ok(files) = fs::read_dir(folder) else { continue };
        for file in files {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with("libonnxruntime.so") {
                return Ok(file.path());
            }
        }
    }
    Err(format!("{} has no libonnxruntime.so", environment.display()).into())
}
