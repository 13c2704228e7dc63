//! The programs a cluster consists of: some from the system's packages, the rest built once from the Go module proxy.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use thiserror::Error;

use crate::go_build::{self, Build, GoError, HELM, Toolchain};
use crate::process;

/// The Kubernetes that the tests run on.
pub(super) const KUBERNETES: &str = "1.36.3";

/// Programs of `k8s.io/kubernetes/cmd`.
const KUBERNETES_PROGRAMS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];

/// What a node needs of the system, and the Debian package that has it.
const SYSTEM_PROGRAMS: [(&str, &str); 11] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("sysctl", "procps"),
    ("openssl", "openssl"),
    ("python3", "python3"),
];

/// These programs of the system are not there.
#[derive(Debug, Error)]
#[error("these programs are missing: {programs}; on Debian: apt-get install {packages}")]
pub(super) struct Missing {
    programs: String,
    packages: String,
}

const CLUSTER_BUILDS: [Build; 4] = [
    HELM,
    Build {
        version: "1.15.0",
        programs: &["coredns"],
        run: |go, version| go.install(&format!("github.com/coredns/coredns@v{version}")),
    },
    Build { version: "3.6.16", programs: &["etcd"], run: etcd },
    Build { version: KUBERNETES, programs: &KUBERNETES_PROGRAMS, run: kubernetes },
];

/// The packages to install before a cluster can run here, or nothing.
pub(super) fn missing_from_system() -> Result<(), Missing> {
    let missing = SYSTEM_PROGRAMS.iter().filter(|(program, _)| process::find(program).is_none());
    let (programs, mut packages): (Vec<_>, Vec<_>) = missing.copied().unzip();
    if programs.is_empty() {
        return Ok(());
    }
    packages.dedup();
    Err(Missing { programs: programs.join(", "), packages: packages.join(" ") })
}

/// Builds what is missing of the cluster's programs into `folder/bin`.
pub(super) fn ensure_cluster(folder: &Path) -> Result<(), GoError> {
    go_build::ensure(&CLUSTER_BUILDS, folder)
}

/// Whether all of them are there.
pub(super) fn are_built(folder: &Path) -> bool {
    CLUSTER_BUILDS.iter().all(|build| go_build::is_built(build, folder))
}

/// Builds Helm if it is missing; all that is needed beside somebody else's cluster.
pub(super) fn ensure_helm(folder: &Path) -> Result<(), GoError> {
    go_build::ensure(&[HELM], folder)
}

/// etcd's server has no `main` that can be installed by its path: its module uses `replace`.
fn etcd(go: Toolchain<'_>, version: &str) -> Result<(), GoError> {
    let source = go.folder.join("build/etcd");
    go_build::write(
        &source.join("go.mod"),
        &format!(
            "module example.invalid/etcd\n\ngo 1.26.0\n\nrequire go.etcd.io/etcd/server/v3 v{version}\n"
        ),
    )?;
    go_build::write(
        &source.join("main.go"),
        "package main\n\nimport (\n\t\"os\"\n\n\t\"go.etcd.io/etcd/server/v3/etcdmain\"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n",
    )?;
    go.tidy(&source)?;
    go.build(&source, "etcd", "-s -w", ".")
}

/// Kubernetes' module replaces its own staging modules by folders; each is also published, one minor version for
/// one of Kubernetes, so a module of ours replaces them by those.
fn kubernetes(go: Toolchain<'_>, _: &str) -> Result<(), GoError> {
    let source = go.folder.join("build/kubernetes");
    fs::create_dir_all(&source).map_err(|error| GoError::Write(source.clone(), error))?;
    let module = format!("k8s.io/kubernetes@v{KUBERNETES}");
    let folder = go_build::source(&module, &source)?;
    let go_mod = fs::read_to_string(folder.join("go.mod")).map_err(|_| GoError::NoSource(module))?;
    go_build::write(&source.join("go.mod"), &module_for(&go_mod))?;
    let mut tools = "//go:build tools\n\npackage tools\n\n".to_owned();
    for program in KUBERNETES_PROGRAMS {
        // Writing to a string does not fail.
        let _ = writeln!(tools, "import _ \"k8s.io/kubernetes/cmd/{program}\"");
    }
    go_build::write(&source.join("tools.go"), &tools)?;
    go.tidy(&source)?;
    // The servers and their clients judge each other by this version.
    let mut linker = "-s -w".to_owned();
    let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        let _ = write!(
            linker,
            " -X {package}.gitVersion=v{KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor={minor} \
             -X {package}.gitTreeState=clean -X {package}.gitCommit=module"
        );
    }
    for program in KUBERNETES_PROGRAMS {
        go.build(&source, program, &linker, &format!("k8s.io/kubernetes/cmd/{program}"))?;
    }
    Ok(())
}

/// The `go.mod` of a module that builds Kubernetes' programs, from Kubernetes' own.
fn module_for(go_mod: &str) -> String {
    let language = go_mod.lines().find(|line| line.starts_with("go ")).unwrap_or("go 1.26.0");
    let mut staging: Vec<_> = go_mod
        .lines()
        .filter_map(|line| line.split_once("=> ./staging/src/").map(|(_, module)| module.trim()))
        .collect();
    staging.sort_unstable();
    staging.dedup();
    let version = KUBERNETES.split_once('.').map_or(KUBERNETES, |(_, rest)| rest);
    let mut text = format!(
        "module example.invalid/kubernetes\n\n{language}\n\ngodebug default=go1.26\n\n\
         require k8s.io/kubernetes v{KUBERNETES}\n\nreplace (\n"
    );
    for module in staging {
        let _ = writeln!(text, "\t{module} => {module} v0.{version}");
    }
    text + ")\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_modules_are_replaced_by_the_published_ones() {
        let own = "module k8s.io/kubernetes\n\ngo 1.26.1\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\
                   \tk8s.io/kubelet => ./staging/src/k8s.io/kubelet\n\tother.example => ./elsewhere\n)\n";
        let module = module_for(own);
        assert!(module.contains("\ngo 1.26.1\n"), "{module}");
        assert!(module.contains("\tk8s.io/kubelet => k8s.io/kubelet v0.36.3\n"), "{module}");
        assert!(!module.contains("other.example"), "{module}");
    }
}
