//! Virtual environments with pinned packages, for what is written in Python.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::workspace::Workspace;
use crate::{cache_folder, process};

const PYTHON: &str = "python3";
/// The oldest that the pinned packages run on.
const LEAST: (u32, u32) = (3, 11);
/// Written when every package is installed.
const COMPLETE: &str = "complete";

/// The Python of an environment with the packages of `folder`/requirements.txt, made once per state of that list under `name`. Without a
/// Python that is new enough, says that `what` is left out and gives none: serving needs no Python.
pub(crate) fn make(
    workspace: &Workspace,
    name: &str,
    folder: &Path,
    what: &str,
) -> Result<Option<PathBuf>, Box<dyn Error>> {
    let printed = process::capture(workspace.command(PYTHON).arg("--version")).map(|output| output.stdout);
    let printed = printed.map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    if version_of(&printed).is_none_or(|version| version < LEAST) {
        let (major, minor) = LEAST;
        eprintln!("No Python {major}.{minor} or later as `{PYTHON}`: {what} are left out");
        return Ok(None);
    }
    let requirements = folder.join("requirements.txt");
    let digest = hex::encode(Sha256::digest(fs::read(&requirements)?));
    let environment = cache_folder::locate()?.join(format!("{name}-{}", &digest[..12]));
    let python = environment.join("bin").join("python");
    if !environment.join(COMPLETE).exists() {
        eprintln!("Installing {} into {}: once", requirements.display(), environment.display());
        process::run(workspace.command(PYTHON).args(["-m", "venv", "--clear"]).arg(&environment))?;
        let mut pip = workspace.command(&python.to_string_lossy());
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", "--quiet"]);
        process::run(pip.arg("--requirement").arg(requirements))?;
        fs::write(environment.join(COMPLETE), "")?;
    }
    Ok(Some(python))
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
