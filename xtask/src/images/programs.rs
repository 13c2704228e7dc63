//! The build context of packed images: programs that were compiled here, the verified ONNX Runtime, the bundled models.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::images::fresh;
use crate::onnxruntime;
use crate::process;
use crate::workspace::Workspace;

/// busybox under a name by which it only copies.
pub(super) const COPIER: &str = "cp";

/// Makes the context below `folder` and gives its path.
pub(super) fn pack(workspace: &Workspace, folder: &Path, release: bool) -> Result<PathBuf, Box<dyn Error>> {
    let context = folder.join("context");
    let programs = context.join("programs");
    fresh(&context)?;
    fs::create_dir_all(&programs)?;

    for program in compile(workspace, release)? {
        let name = program.file_name().unwrap_or_default();
        // What debuggers read is most of a program that tests run.
        process::run(
            Command::new("strip").arg("--strip-debug").arg("-o").arg(programs.join(name)).arg(&program),
        )?;
    }
    fs::copy(onnxruntime::ensure()?, programs.join("libonnxruntime.so"))?;
    fs::copy(copier(folder)?, programs.join(COPIER))?;

    let models = context.join("models");
    fs::create_dir_all(&models)?;
    process::run(Command::new("cp").arg("-r").arg(workspace.root().join("models/bestiary")).arg(&models))?;
    // The judge of benchmarks draws nothing.
    fs::remove_dir_all(models.join("bestiary/benchmark"))?;
    Ok(context)
}

/// busybox: of the base that was just made, or of this machine.
fn copier(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let candidates = [folder.join(COPIER), "/bin/busybox".into()];
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| "busybox copies models out of an image: apt install busybox-static".into())
}

/// The programs of services and the command, as cargo reports them.
fn compile(workspace: &Workspace, release: bool) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut build = workspace.cargo("build");
    // As for the tests, whose programs are then found compiled.
    build.args(["--workspace", "--bins", "--locked", "--message-format=json-render-diagnostics"]);
    if release {
        build.arg("--release");
    }
    let output = process::capture(build.stderr(std::process::Stdio::inherit()))?;
    let executables = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_packed))
        .collect();
    Ok(executables)
}

fn is_packed(program: &str) -> bool {
    program == "reverie" || (program.starts_with("reverie-") && program != "reverie-bench")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_the_command_are_packed_and_benchmarks_are_not() {
        assert!(is_packed("reverie") && is_packed("reverie-super-resolution"));
        assert!(!is_packed("reverie-bench") && !is_packed("xtask"));
    }
}
