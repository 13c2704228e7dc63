//! Programs that Go builds from its module proxy, once, into the cache folder, each with a record of its version.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::process::{self, ProcessError};

/// Why a program could not be built.
#[derive(Debug, Error)]
pub(crate) enum GoError {
    #[error("some programs are built from source once, which needs Go 1.26 or newer: no `go` was found")]
    NoGo(#[source] ProcessError),
    #[error(transparent)]
    Build(#[from] ProcessError),
    /// The Go module cache answered something unexpected.
    #[error("`go mod download` named no folder for {0}")]
    NoSource(String),
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
}

/// Something Go builds: one module version, one or more programs.
pub(crate) struct Build {
    pub(crate) version: &'static str,
    pub(crate) programs: &'static [&'static str],
    /// Builds that version.
    pub(crate) run: fn(Toolchain<'_>, &str) -> Result<(), GoError>,
}

pub(crate) const HELM: Build = Build {
    version: "4.2.4",
    programs: &["helm"],
    run: |go, version| go.install(&format!("helm.sh/helm/v4/cmd/helm@v{version}")),
};
pub(crate) const KUBECONFORM: Build = Build {
    version: "0.8.0",
    programs: &["kubeconform"],
    run: |go, version| go.install(&format!("github.com/yannh/kubeconform/cmd/kubeconform@v{version}")),
};

/// Builds what is missing into `folder/bin`, or is there in another version.
pub(crate) fn ensure(builds: &[Build], folder: &Path) -> Result<(), GoError> {
    let wanted: Vec<_> = builds.iter().filter(|build| !is_built(build, folder)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    process::capture(Command::new("go").arg("version")).map_err(GoError::NoGo)?;
    for build in wanted {
        eprintln!(
            "Building {} {} (once; this can take some minutes)",
            build.programs.join(", "),
            build.version
        );
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).map_err(|error| GoError::Write(bin, error))?;
        (build.run)(Toolchain { folder }, build.version)?;
        for program in build.programs {
            write(&record(folder, program), build.version)?;
        }
    }
    Ok(())
}

/// Whether it was built into `folder/bin` in its version.
pub(crate) fn is_built(build: &Build, folder: &Path) -> bool {
    build.programs.iter().all(|program| {
        folder.join("bin").join(program).is_file()
            && fs::read_to_string(record(folder, program)).is_ok_and(|version| version == build.version)
    })
}

/// Where the version of a built program is written down.
fn record(folder: &Path, program: &str) -> PathBuf {
    folder.join("bin").join(format!("{program}.version"))
}

/// Writes a file, and makes its folder where there is none.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), GoError> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| GoError::Write(path.to_owned(), error))
}

/// The folder of a module's source, downloaded if it is not there. `within` is a folder away from any module of the user's.
pub(crate) fn source(module: &str, within: &Path) -> Result<PathBuf, GoError> {
    let mut go = Command::new("go");
    let download = process::capture(go.args(["mod", "download", "-json", module]).current_dir(within))?;
    let answer: Option<serde_json::Value> = serde_json::from_slice(&download.stdout).ok();
    let folder = answer.and_then(|answer| answer["Dir"].as_str().map(PathBuf::from));
    folder.ok_or_else(|| GoError::NoSource(module.to_owned()))
}

/// Go, and where what it builds goes.
#[derive(Clone, Copy)]
pub(crate) struct Toolchain<'f> {
    /// Programs go into `bin` below it, sources into `build`.
    pub(crate) folder: &'f Path,
}

impl Toolchain<'_> {
    fn go(&self, within: &Path, arguments: &[&str]) -> Command {
        self.polite(OsStr::new("go"), within, arguments)
    }

    fn polite(&self, program: &OsStr, within: &Path, arguments: &[&str]) -> Command {
        // This takes minutes of every core.
        let mut command = Command::new("nice");
        command.args(["-n", "10"]).arg(program).args(arguments).current_dir(within);
        command
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-buildvcs=false")
            .env("GOBIN", self.folder.join("bin"));
        command
    }

    pub(crate) fn install(&self, package: &str) -> Result<(), GoError> {
        Ok(process::run(&mut self.go(self.folder, &["install", "-trimpath", "-ldflags", "-s -w", package]))?)
    }

    /// Fills in what the module at `within` needs.
    pub(crate) fn tidy(&self, within: &Path) -> Result<(), GoError> {
        process::capture(&mut self.go(within, &["mod", "tidy"]))?;
        Ok(())
    }

    /// Runs a program that was installed, which may call Go itself.
    pub(crate) fn run(&self, program: &str, within: &Path, arguments: &[&str]) -> Result<(), GoError> {
        let built = self.folder.join("bin").join(program);
        Ok(process::run(&mut self.polite(built.as_os_str(), within, arguments))?)
    }

    pub(crate) fn build(
        &self,
        within: &Path,
        program: &str,
        linker: &str,
        package: &str,
    ) -> Result<(), GoError> {
        let out = self.folder.join("bin").join(program);
        let mut go = self.go(within, &["build", "-trimpath", "-ldflags", linker, "-o"]);
        Ok(process::run(go.arg(out).arg(package))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_another_version_is_built_anew() {
        let folder = tempfile::tempdir().unwrap();
        let helm = &HELM;
        assert!(!is_built(helm, folder.path()));
        write(&folder.path().join("bin/helm"), "a program").unwrap();
        write(&record(folder.path(), "helm"), HELM.version).unwrap();
        assert!(is_built(helm, folder.path()));
        write(&record(folder.path(), "helm"), "3.0.0").unwrap();
        assert!(!is_built(helm, folder.path()));
    }
}
