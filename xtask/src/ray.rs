//! The bulk import, on a local Ray.

use std::net::TcpStream;
use std::time::Duration;

use crate::observability::background::{Background, free_port};
use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, process, python_environment};

/// For the encoder to load its models.
const PATIENCE: Duration = Duration::from_mins(2);

/// Fetches Ray, starts the encoder service, and runs the tests of `clients/ray` with both.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let folder = workspace.root().join("clients/ray");
    let Some(python) = python_environment::make(workspace, "ray", &folder, "the tests of clients/ray")?
    else {
        return Ok(());
    };
    process::run(workspace.cargo("build").args(["--workspace", "--bins", "--locked"]))?;
    let library = onnxruntime::ensure()?;
    let (logs, port) = (tempfile::tempdir()?, free_port()?);
    let programs = workspace.root().join("target/debug");
    let mut encoder = workspace.command(&programs.join("reverie-encoder").to_string_lossy());
    encoder.args(["--set", &format!("server.listen=127.0.0.1:{port}")]).env(ORT_DYLIB_PATH, &library);
    let mut encoder = Background::start("reverie-encoder", &mut encoder, logs.path())?;
    encoder.wait_until(PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    let mut tests = workspace.command(&python.to_string_lossy());
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]).current_dir(&folder);
    tests.env("PYTHONDONTWRITEBYTECODE", "1").env("RAY_USAGE_STATS_ENABLED", "0");
    tests.env("REVERIE", programs.join("reverie")).env(ORT_DYLIB_PATH, library);
    process::run(tests.env("ENCODER", format!("http://127.0.0.1:{port}")))?;
    Ok(())
}
