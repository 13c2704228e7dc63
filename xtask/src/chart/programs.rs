//! The programs that judge the chart. Helm and kubeconform are built once if Go is there; promtool comes with Prometheus.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::{cache_folder, process};

/// A program is not here and cannot be built here.
#[derive(Debug, thiserror::Error)]
#[error("the chart is checked with {program}, which is not here: {remedy}")]
pub(crate) struct Missing {
    program: &'static str,
    remedy: &'static str,
}

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) helm: PathBuf,
    pub(crate) kubeconform: PathBuf,
    pub(crate) promtool: PathBuf,
    pub(crate) go: PathBuf,
}

const BUILD_WITH_GO: &str = "install Go 1.26 or newer, with which it is built once";

impl Programs {
    /// Finds them on `PATH` or in the cache folder, and builds those that Go can build.
    pub(crate) fn ensure() -> Result<Self, Box<dyn Error>> {
        let promtool = on_path("promtool").ok_or(Missing {
            program: "promtool",
            remedy: "install Prometheus (Debian: apt-get install prometheus)",
        })?;
        let go = on_path("go").ok_or(Missing { program: "go", remedy: "install Go 1.26 or newer" })?;
        Ok(Self {
            helm: built("helm", "helm.sh/helm/v4/cmd/helm@v4.2.4")?,
            kubeconform: built("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0")?,
            promtool,
            go,
        })
    }

    /// Helm, to be run so that no settings or plugins of its user's have a part in it.
    pub(crate) fn helm(&self) -> Command {
        let mut helm = Command::new(&self.helm);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("HELM_")) {
                helm.env_remove(name);
            }
        }
        helm
    }
}

/// The cache has the pinned version, so it goes before what is installed.
fn built(program: &'static str, package: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = cache_folder::locate()?.join("cluster/bin");
    let own = folder.join(program);
    if !own.is_file() {
        let go = on_path("go").ok_or(Missing { program, remedy: BUILD_WITH_GO })?;
        fs::create_dir_all(&folder)?;
        eprintln!("Building {package} into {}: a few minutes, once", folder.display());
        process::run(
            Command::new(go)
                .args(["install", "-trimpath", "-ldflags", "-s -w", package])
                .env("GOBIN", &folder)
                .env("CGO_ENABLED", "0"),
        )?;
    }
    Ok(own)
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| Path::is_file(path))
}
