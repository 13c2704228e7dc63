//! The build context of packed images: programs that were compiled here, the verified ONNX Runtime, the bundled models.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo_build::{self, Profile};
use crate::images::fresh;
use crate::onnxruntime;
use crate::process;
use crate::workspace::Workspace;

/// busybox under a name by which it only copies.
pub(super) const COPIER: &str = "cp";

/// Makes the context below `folder` and gives its path.
pub(super) fn pack(
    workspace: &Workspace,
    folder: &Path,
    profile: Profile,
) -> Result<PathBuf, Box<dyn Error>> {
    let context = folder.join("context");
    let programs = context.join("programs");
    fresh(&context)?;
    fs::create_dir_all(&programs)?;

    let compiled = cargo_build::all(profile, workspace)?;
    for (name, program) in compiled.into_iter().filter(|(name, _)| is_packed(name)) {
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

/// Services and the command.
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
