//! The vector service with a Milvus in place of its own memory.

use std::net::TcpStream;
use std::time::Duration;

use crate::observability::background::{Background, free_port};
use crate::workspace::Workspace;
use crate::{Outcome, python_environment, test_suite};

/// Names its address to the tests.
const ADDRESS: &str = "REVERIE_TEST_MILVUS";
/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_mins(1);

/// Fetches Milvus Lite, which serves Milvus's protocol, starts it, and runs the tests of the vector service's contract on it.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let folder = workspace.root().join("services/vector/tests/milvus");
    let Some(python) = python_environment::make(workspace, "milvus", &folder, "the tests on Milvus")? else {
        return Ok(());
    };
    let (data, port) = (tempfile::tempdir()?, free_port()?);
    let mut serve = workspace.command(&python.with_file_name("milvus-lite").to_string_lossy());
    serve.arg("server").args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    serve.arg("--data-dir").arg(data.path().join("milvus"));
    let mut milvus = Background::start("milvus-lite", &mut serve, data.path())?;
    milvus.wait_until(PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    let variables = [(ADDRESS, Some(format!("http://127.0.0.1:{port}")))];
    test_suite::run_at_length(workspace, &["contract"], &variables)
}
