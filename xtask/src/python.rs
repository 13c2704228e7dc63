//! The two things Python is asked for: to download a wheel with pip, and to unpack it.

use std::path::Path;
use std::process::Command;

use thiserror::Error;

use crate::process::{self, ProcessError};
use crate::wheel::{PYTHON_VERSION, VERSION, Wheel};

const PYTHON: &str = "python3";

/// Why Python could not do its part.
#[derive(Debug, Error)]
pub(crate) enum PythonError {
    /// No `python3` on `PATH`, or one that does not start.
    #[error("ONNX Runtime is fetched with Python 3, which does not run here: install python3 and its pip")]
    NoPython(#[source] ProcessError),
    /// `python3` runs but has no pip.
    #[error(
        "ONNX Runtime is fetched with pip, which this Python lacks: install it (package python3-pip, or `python3 -m ensurepip`)"
    )]
    NoPip,
    /// pip ran and failed; the source holds what it said.
    #[error("pip could not download {wheel}")]
    Download { wheel: String, source: ProcessError },
    /// The wheel did not unpack.
    #[error("cannot unpack {wheel}")]
    Unpack { wheel: String, source: ProcessError },
}

/// Downloads a wheel into `folder`, under the name [`Wheel::file_name`].
pub(crate) fn download(wheel: &Wheel, folder: &Path) -> Result<(), PythonError> {
    process::capture(Command::new(PYTHON).arg("--version")).map_err(PythonError::NoPython)?;
    if !process::succeeds(Command::new(PYTHON).args(["-m", "pip", "--version"])) {
        return Err(PythonError::NoPip);
    }
    process::capture(&mut pip_download(wheel, folder))
        .map_err(|source| PythonError::Download { wheel: wheel.file_name(), source })?;
    Ok(())
}

/// Unpacks a wheel (a zip archive) into `folder`. Only for wheels whose checksum has been verified.
pub(crate) fn unpack(wheel: &Path, folder: &Path) -> Result<(), PythonError> {
    process::capture(Command::new(PYTHON).args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder))
        .map_err(|source| PythonError::Unpack { wheel: wheel.display().to_string(), source })?;
    Ok(())
}

fn pip_download(wheel: &Wheel, folder: &Path) -> Command {
    let mut pip = Command::new(PYTHON);
    pip.args(["-m", "pip", "download", &format!("onnxruntime=={VERSION}")])
        .args(["--no-deps", "--only-binary=:all:", "--implementation", "cp"])
        .args(["--platform", wheel.platform, "--python-version", PYTHON_VERSION])
        .args(["--disable-pip-version-check", "--progress-bar", "off", "-d"])
        .arg(folder)
        // Nothing is installed, so a wish to install into virtual environments only need not stop it.
        .env("PIP_REQUIRE_VIRTUALENV", "0");
    pip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_is_asked_for_the_pinned_file_whatever_python_runs_it() {
        let wheel = Wheel::for_platform("linux", "aarch64", "gnu").unwrap();
        let command = pip_download(wheel, Path::new("/folder"));
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().unwrap()).collect();
        let line = arguments.join(" ");
        assert!(
            line.starts_with("-m pip download onnxruntime==1.31.1 --no-deps --only-binary=:all:"),
            "{line}"
        );
        assert!(line.contains("--platform manylinux_2_28_aarch64 --python-version 3.12"), "{line}");
        assert!(line.ends_with("-d /folder"), "{line}");
    }
}
