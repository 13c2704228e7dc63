//! The programs that judge the chart. Helm and kubeconform are built once if Go is there; promtool comes with Prometheus.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use crate::go_build::{self, HELM, KUBECONFORM};
use crate::{cache_folder, missing};

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) helm: PathBuf,
    pub(crate) kubeconform: PathBuf,
    pub(crate) promtool: PathBuf,
}

impl Programs {
    /// Finds promtool, and builds the others in the cache folder.
    pub(crate) fn ensure() -> Result<Self, Box<dyn Error>> {
        let find = |program, remedy| missing::find("the chart is checked", program, remedy);
        let promtool = find("promtool", missing::PROMETHEUS)?;
        find("go", missing::GO)?;
        // Where the cluster's programs are: it has the same Helm.
        let folder = cache_folder::locate()?.join("cluster");
        go_build::ensure(&[HELM, KUBECONFORM], &folder)?;
        let bin = folder.join("bin");
        Ok(Self { helm: bin.join("helm"), kubeconform: bin.join("kubeconform"), promtool })
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
