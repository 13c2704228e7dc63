//! Talking to a cluster with kubectl and Helm: to our own from within its network, or to another by its context.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::certificates::Certificates;
use super::layout::NODES;
use super::node;
use crate::process::{self, ProcessError};

/// Where the release under test is installed.
pub(super) const NAMESPACE: &str = "reverie-test";

/// Which cluster, and with which programs.
#[derive(Debug, Clone)]
pub(super) struct Access {
    kubectl: PathBuf,
    helm: PathBuf,
    target: Target,
    /// Helm's caches, so that nobody's own are touched.
    helm_home: PathBuf,
}

#[derive(Debug, Clone)]
enum Target {
    /// By this kubeconfig, from the network of the first node.
    Own(PathBuf),
    /// A context of the user's kubeconfig.
    Context(String),
}

impl Access {
    /// To the cluster whose keys these are.
    pub(super) fn own(kubectl: PathBuf, helm: PathBuf, keys: &Certificates, run: &Path) -> Self {
        let target = Target::Own(keys.kubeconfig("admin"));
        Self { kubectl, helm, target, helm_home: run.join("helm") }
    }

    /// To the cluster that a context of the user's kubeconfig names.
    pub(super) fn context(name: &str, helm: PathBuf, folder: &Path) -> Self {
        let target = Target::Context(name.to_owned());
        Self { kubectl: "kubectl".into(), helm, target, helm_home: folder.join("helm") }
    }

    /// A program that reaches the cluster's API and, in a cluster of our own, pods and Services too.
    pub(super) fn program(&self, program: &Path) -> Command {
        match &self.target {
            Target::Own(_) => {
                let mut command = node::within(NODES[0].namespace, "env");
                command.arg(program);
                command
            }
            Target::Context(_) => Command::new(program),
        }
    }

    /// kubectl; `NAMESPACE` unless the arguments say otherwise.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&self.kubectl);
        match &self.target {
            Target::Own(kubeconfig) => command.arg("--kubeconfig").arg(kubeconfig),
            Target::Context(name) => command.arg("--context").arg(name),
        };
        command.args(["--namespace", NAMESPACE]).args(arguments);
        command
    }

    /// Runs kubectl and returns what it printed.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String, ProcessError> {
        let output = process::capture(&mut self.kubectl(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The objects that `kubectl get` finds.
    pub(super) fn get(&self, arguments: &[&str]) -> Result<Vec<Value>, Box<dyn Error>> {
        let arguments = [&["get", "-o", "json"], arguments].concat();
        let mut list: Value = serde_json::from_str(&self.run(&arguments)?)?;
        Ok(match list["items"].take() {
            Value::Array(items) => items,
            _ => vec![list],
        })
    }

    /// Creates or changes objects.
    pub(super) fn apply(&self, objects: &Value) -> Result<(), Box<dyn Error>> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), objects.to_string())?;
        let path = file.path().display().to_string();
        self.run(&["apply", "--filename", &path])?;
        Ok(())
    }

    /// Runs Helm.
    pub(super) fn helm(&self, arguments: &[&str]) -> Result<String, ProcessError> {
        let mut command = self.program(&self.helm);
        match &self.target {
            Target::Own(kubeconfig) => command.arg("--kubeconfig").arg(kubeconfig),
            Target::Context(name) => command.arg("--kube-context").arg(name),
        };
        self.helm_folders(&mut command);
        command.args(["--namespace", NAMESPACE]).args(arguments);
        let output = process::capture(&mut command)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A bash in which kubectl, Helm and the programs in `folders` are found, and reach this cluster without being told of it.
    pub(super) fn bash(&self, folders: &[&Path]) -> Result<Command, Box<dyn Error>> {
        let kubeconfig = match &self.target {
            Target::Own(kubeconfig) => kubeconfig.clone(),
            Target::Context(_) => {
                let file = self.helm_home.join("kubeconfig");
                fs::create_dir_all(&self.helm_home)?;
                fs::write(&file, self.run(&["config", "view", "--minify", "--flatten"])?)?;
                file
            }
        };
        let of_ours = [&self.helm, &self.kubectl].into_iter().filter_map(|program| program.parent());
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = of_ours.chain(folders.iter().copied()).map(Path::to_owned);
        let path =
            env::join_paths(folders.filter(|folder| folder.is_absolute()).chain(env::split_paths(&path)))?;
        let mut bash = self.program(Path::new("bash"));
        bash.env("PATH", path).env("KUBECONFIG", kubeconfig);
        self.helm_folders(&mut bash);
        Ok(bash)
    }

    fn helm_folders(&self, command: &mut Command) {
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.helm_home.join(folder));
        }
    }

    /// Whether the API server is ready.
    pub(super) fn is_ready(&self) -> bool {
        process::succeeds(&mut self.kubectl(&["get", "--raw", "/readyz"]))
    }

    /// The certificate that the cluster's programs are signed with, PEM in Base64.
    pub(super) fn authority(&self) -> Result<String, ProcessError> {
        let path = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
        self.run(&["config", "view", "--minify", "--flatten", "--output", path])
    }

    /// Whether the cluster is this command's own: then nodes may be drained and metrics APIs added.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.target, Target::Own(_))
    }
}
