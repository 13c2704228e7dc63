//! Object storage tried on real servers of every kind, which are built once: S3 (versitygw), Google Cloud Storage (fake-gcs-server)
//! and Azure (Azurite).

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use crate::go_build::{self, Build};
use crate::workspace::Workspace;
use crate::{Outcome, cache_folder, missing, process, test_suite};

/// What needs the programs.
const STEP: &str = "object storage is tried on servers that are built";
const VERSITYGW: Build = Build {
    version: "1.8.0",
    programs: &["versitygw"],
    run: |go, version| go.install(&format!("github.com/versity/versitygw/cmd/versitygw@v{version}")),
};
const FAKE_GCS_SERVER: Build = Build {
    version: "1.56.1",
    programs: &["fake-gcs-server"],
    run: |go, version| go.install(&format!("github.com/fsouza/fake-gcs-server@v{version}")),
};
const AZURITE: &str = "azurite@3.37.0";

/// Runs the tests where the servers are there or can be built, and says so where not.
pub(crate) fn run_if_possible(workspace: &Workspace) -> Outcome {
    missing::skip(run(workspace))
}

/// Runs the tests.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let folder = cache_folder::locate()?.join("storage-servers");
    let azurite = azurite(&folder.join(AZURITE))?;
    if ![VERSITYGW, FAKE_GCS_SERVER].iter().all(|build| go_build::is_built(build, &folder)) {
        missing::find(STEP, "go", missing::GO)?;
    }
    go_build::ensure(&[VERSITYGW, FAKE_GCS_SERVER], &folder)?;
    process::run(
        test_suite::prepare(workspace)?
            .args(["--test", "object_storage"])
            // Children are started by the tests.
            .args(["--", "--ignored", "--skip", "child_"])
            .env("REVERIE_TEST_VERSITYGW", folder.join("bin/versitygw"))
            .env("REVERIE_TEST_FAKE_GCS_SERVER", folder.join("bin/fake-gcs-server"))
            .env("REVERIE_TEST_AZURITE", azurite),
    )?;
    Ok(())
}

/// The blob server of Azurite, installed into a folder of its version.
fn azurite(folder: &std::path::Path) -> Result<PathBuf, Box<dyn Error>> {
    let program = folder.join("node_modules/.bin/azurite-blob");
    if !program.is_file() {
        let npm = missing::find(STEP, "npm", "install Node.js 18 or newer")?;
        std::fs::create_dir_all(folder)?;
        eprintln!("Installing {AZURITE} into {} (once)", folder.display());
        let quiet = ["--no-audit", "--no-fund", "--no-save"];
        process::run(Command::new(npm).arg("install").args(quiet).arg(AZURITE).current_dir(folder))?;
    }
    Ok(program)
}
