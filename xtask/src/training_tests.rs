//! The Python tests of models/training, in an environment of their own.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::workspace::Workspace;
use crate::{Outcome, cache_folder, process};

const PYTHON: &str = "python3";
/// The oldest that the pinned packages run on.
const LEAST: (u32, u32) = (3, 11);
/// Written when every package is installed.
const COMPLETE: &str = "complete";

/// Runs pytest. Without a Python that is new enough, says so and passes: serving needs no Python.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let printed = process::capture(Command::new(PYTHON).arg("--version")).map(|output| output.stdout);
    let printed = printed.map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    if version_of(&printed).is_none_or(|version| version < LEAST) {
        let (major, minor) = LEAST;
        eprintln!(
            "No Python {major}.{minor} or later as `{PYTHON}`: the tests of models/training are left out"
        );
        return Ok(());
    }
    let folder = workspace.root().join("models/training");
    let python = environment(workspace, &folder.join("requirements.txt"))?;
    let mut pytest = workspace.command(&python.to_string_lossy());
    process::run(pytest.args(["-m", "pytest", "-q", "tests"]).current_dir(folder))?;
    Ok(())
}

/// The Python of a virtual environment with the pinned packages, made once per state of the list.
fn environment(workspace: &Workspace, requirements: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let digest = hex::encode(Sha256::digest(fs::read(requirements)?));
    let folder = cache_folder::locate()?.join(format!("training-{}", &digest[..12]));
    let python = folder.join("bin").join("python");
    if !folder.join(COMPLETE).exists() {
        eprintln!(
            "Installing PyTorch and the other packages of models/training into {}: once",
            folder.display()
        );
        process::run(workspace.command(PYTHON).args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut pip = workspace.command(&python.to_string_lossy());
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", "--quiet"]);
        process::run(pip.arg("--requirement").arg(requirements))?;
        fs::write(folder.join(COMPLETE), "")?;
    }
    Ok(python)
}

/// Major and minor of `Python 3.11.7`.
fn version_of(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.trim().strip_prefix("Python ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version_of("Python 3.11.7\n"), Some((3, 11)));
        assert!(version_of("Python 3.9.1").is_some_and(|version| version < LEAST));
        assert!(version_of("Python 3.13.0rc1").is_some_and(|version| version > LEAST));
        assert_eq!(version_of(""), None);
    }
}
