//! What calls the mesh in other people's languages: the Python library, and the examples in Rust, Go and TypeScript.

use std::path::Path;
use std::time::Duration;

use crate::observability::background::{Background, free_port};
use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, contracts, missing, process, python_environment};

const PROMPT: &str = "a small zunin on the left, snow";
/// For the mesh to listen.
const PATIENCE: Duration = Duration::from_mins(2);
const STEP: &str = "an example is run";
/// Browsers that the page of the TypeScript example is tried in, if one of them is there.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Checks them all with the programs of this workspace.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    process::run(workspace.cargo("build").args(["--workspace", "--bins", "--examples", "--locked"]))?;
    let library = onnxruntime::ensure()?;
    python(workspace, &library)?;
    missing::skip(typescript(workspace, &library))?;
    missing::skip(same_image_in_rust_and_go(workspace, &library))
}

/// What is generated is up to date, types and style are right, and the library works with a mesh.
fn python(workspace: &Workspace, library: &Path) -> Outcome {
    let folder = workspace.root().join("clients/python");
    let what = "the checks of clients/python";
    let Some(python) = python_environment::make(workspace, "clients", &folder, what)? else { return Ok(()) };
    let checks: [&[&str]; 5] = [
        &["generate.py", "--check"],
        &["-m", "ruff", "format", "--check", "--quiet", ".", "../ray"],
        &["-m", "ruff", "check", "--quiet", ".", "../ray"],
        &["-m", "mypy"],
        &["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
    ];
    for check in checks {
        let mut command = workspace.command(&python.to_string_lossy());
        // It is tested as it lies here, without being installed.
        command.args(check).current_dir(&folder).env("PYTHONPATH", "src").env("PYTHONDONTWRITEBYTECODE", "1");
        process::run(command.env(ORT_DYLIB_PATH, library))?;
    }
    Ok(())
}

/// Types are right, and a back end and a page in a browser draw.
fn typescript(workspace: &Workspace, library: &Path) -> Outcome {
    let folder = workspace.root().join("clients/typescript");
    let npm = missing::find(STEP, "npm", "install Node.js 22 or newer")?;
    let npm = |arguments: &[&str]| {
        let mut npm = workspace.command(&npm.to_string_lossy());
        npm.args(arguments).current_dir(&folder);
        npm
    };
    for arguments in
        [&["install", "--silent"][..], &["run", "generate"], &["run", "check"], &["run", "build"]]
    {
        process::capture(&mut npm(arguments))?;
    }
    let mut test = npm(&["test"]);
    test.env("REVERIE", workspace.root().join("target/debug/reverie")).env(ORT_DYLIB_PATH, library);
    if let Some(browser) = BROWSERS.into_iter().find_map(process::find) {
        test.env("CHROMIUM", browser);
    } else {
        eprintln!("The page is not tried in a browser: none of {} is here", BROWSERS.join(", "));
    }
    Ok(process::run(&mut test)?)
}

/// The same request gives the same bytes, whatever asks.
fn same_image_in_rust_and_go(workspace: &Workspace, library: &Path) -> Outcome {
    let go = missing::find(STEP, "go", missing::GO)?;
    let folder = workspace.root().join("clients/go");
    contracts::generate(workspace, &folder)?;
    let go = |arguments: &[&str]| {
        let mut go = workspace.command(&go.to_string_lossy());
        go.args(arguments).current_dir(&folder);
        go
    };
    process::run(&mut go(&["vet", "."]))?;
    let images = tempfile::tempdir()?;
    let programs = workspace.root().join("target/debug");
    let draw = images.path().join("draw");
    process::run(&mut go(&["build", "-o", &draw.to_string_lossy(), "."]))?;

    let mut serve = workspace.command(&programs.join("reverie").to_string_lossy());
    let address = format!("127.0.0.1:{}", free_port()?);
    serve.args(["serve", "--listen", &address]).env(ORT_DYLIB_PATH, library);
    let mut mesh = Background::start("reverie-serve", &mut serve, images.path())?;
    let url = format!("http://{address}");
    let is_ready = || {
        let mut ask = workspace.command(&programs.join("reverie").to_string_lossy());
        process::succeeds(ask.args(["capabilities", "--server", &url]))
    };
    mesh.wait_until(PATIENCE, is_ready)?;
    let (of_go, of_rust) = (images.path().join("go.png"), images.path().join("rust.png"));
    let mut in_go = workspace.command(&draw.to_string_lossy());
    in_go.args(["-server", &url, "-size", "256", "-seed", "7", PROMPT]).arg(&of_go);
    process::run(&mut in_go)?;
    let mut in_rust = workspace.command(&programs.join("examples/draw").to_string_lossy());
    process::run(in_rust.args([&url, "256", "7", PROMPT]).arg(&of_rust))?;
    if std::fs::read(of_go)? == std::fs::read(of_rust)? {
        Ok(())
    } else {
        Err("the examples in Rust and Go drew different images".into())
    }
}
