//! The programs a cluster consists of: some from the system's packages, the rest built once from the Go module proxy.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::process::{self, ProcessError};

/// The Kubernetes that the tests run on.
pub(super) const KUBERNETES: &str = "1.36.3";
const ETCD: &str = "3.6.16";
const COREDNS: &str = "1.15.0";
const HELM: &str = "4.2.4";

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

/// Why the programs are not there.
#[derive(Debug, Error)]
pub(super) enum ProgramError {
    /// Programs of the system are missing.
    #[error("these programs are missing: {0}; on Debian: apt-get install {1}")]
    Missing(String, String),
    /// The cluster's own programs must be built first, and there is no Go.
    #[error("Kubernetes is built from source once, which needs Go 1.26 or newer: no `go` was found")]
    NoGo(#[source] ProcessError),
    #[error(transparent)]
    Build(#[from] ProcessError),
    /// The Go module cache answered something unexpected.
    #[error("`go mod download` named no folder for k8s.io/kubernetes v{KUBERNETES}")]
    NoSource,
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
}

/// Something Go builds: one module version, one or more programs.
struct Build {
    version: &'static str,
    programs: &'static [&'static str],
    run: fn(Toolchain<'_>) -> Result<(), ProgramError>,
}

const CLUSTER_BUILDS: [Build; 4] = [
    Build { version: HELM, programs: &["helm"], run: |go| go.helm() },
    Build { version: COREDNS, programs: &["coredns"], run: |go| go.coredns() },
    Build { version: ETCD, programs: &["etcd"], run: |go| go.etcd() },
    Build { version: KUBERNETES, programs: &KUBERNETES_PROGRAMS, run: |go| go.kubernetes() },
];

/// The packages to install before a cluster can run here, or nothing.
pub(super) fn missing_from_system() -> Result<(), ProgramError> {
    let missing = SYSTEM_PROGRAMS.iter().filter(|(program, _)| find(program).is_none());
    let (programs, mut packages): (Vec<_>, Vec<_>) = missing.copied().unzip();
    if programs.is_empty() {
        return Ok(());
    }
    packages.dedup();
    Err(ProgramError::Missing(programs.join(", "), packages.join(" ")))
}

/// Builds what is missing of the cluster's programs into `folder/bin`.
pub(super) fn ensure_cluster(folder: &Path) -> Result<(), ProgramError> {
    ensure(&CLUSTER_BUILDS, folder)
}

/// Builds Helm if it is missing; all that is needed beside somebody else's cluster.
pub(super) fn ensure_helm(folder: &Path) -> Result<(), ProgramError> {
    ensure(&CLUSTER_BUILDS[..1], folder)
}

fn ensure(builds: &[Build], folder: &Path) -> Result<(), ProgramError> {
    let wanted: Vec<_> = builds.iter().filter(|build| !is_built(build, folder)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    process::capture(Command::new("go").arg("version")).map_err(ProgramError::NoGo)?;
    for build in wanted {
        eprintln!(
            "Building {} {} (once; Kubernetes takes some minutes)",
            build.programs.join(", "),
            build.version
        );
        (build.run)(Toolchain { folder })?;
        for program in build.programs {
            write(&record(folder, program), build.version)?;
        }
    }
    Ok(())
}

fn is_built(build: &Build, folder: &Path) -> bool {
    build.programs.iter().all(|program| {
        folder.join("bin").join(program).is_file()
            && fs::read_to_string(record(folder, program)).is_ok_and(|version| version == build.version)
    })
}

/// Where the version of a built program is written down.
fn record(folder: &Path, program: &str) -> PathBuf {
    folder.join("bin").join(format!("{program}.version"))
}

fn write(path: &Path, text: &str) -> Result<(), ProgramError> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| ProgramError::Write(path.to_owned(), error))
}

/// A program by its path, or by its name on `PATH` and where system programs lie.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Go, and where what it builds goes.
#[derive(Clone, Copy)]
struct Toolchain<'f> {
    /// Programs go into `bin` below it, sources into `build`.
    folder: &'f Path,
}

impl Toolchain<'_> {
    fn go(&self, within: &Path, arguments: &[&str]) -> Command {
        // Polite: this takes minutes of every core.
        let mut go = Command::new("nice");
        go.args(["-n", "10", "go"]).args(arguments).current_dir(within);
        go.env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false").env("GOBIN", self.folder.join("bin"));
        go
    }

    fn install(&self, package: &str) -> Result<(), ProgramError> {
        Ok(process::run(&mut self.go(self.folder, &["install", "-trimpath", "-ldflags", "-s -w", package]))?)
    }

    fn build(&self, within: &Path, program: &str, linker: &str, package: &str) -> Result<(), ProgramError> {
        let out = self.folder.join("bin").join(program);
        let mut go = self.go(within, &["build", "-trimpath", "-ldflags", linker, "-o"]);
        Ok(process::run(go.arg(out).arg(package))?)
    }

    fn helm(&self) -> Result<(), ProgramError> {
        self.install(&format!("helm.sh/helm/v4/cmd/helm@v{HELM}"))
    }

    fn coredns(&self) -> Result<(), ProgramError> {
        self.install(&format!("github.com/coredns/coredns@v{COREDNS}"))
    }

    /// etcd's server has no `main` that can be installed by its path: its module uses `replace`.
    fn etcd(&self) -> Result<(), ProgramError> {
        let source = self.folder.join("build/etcd");
        write(
            &source.join("go.mod"),
            &format!(
                "module example.invalid/etcd\n\ngo 1.26.0\n\nrequire go.etcd.io/etcd/server/v3 v{ETCD}\n"
            ),
        )?;
        write(
            &source.join("main.go"),
            "package main\n\nimport (\n\t\"os\"\n\n\t\"go.etcd.io/etcd/server/v3/etcdmain\"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n",
        )?;
        process::capture(&mut self.go(&source, &["mod", "tidy"]))?;
        self.build(&source, "etcd", "-s -w", ".")
    }

    /// Kubernetes' module replaces its own staging modules by folders; each is also published, one minor version for
    /// one of Kubernetes, so a module of ours replaces them by those.
    fn kubernetes(&self) -> Result<(), ProgramError> {
        let source = self.folder.join("build/kubernetes");
        fs::create_dir_all(&source).map_err(|error| ProgramError::Write(source.clone(), error))?;
        let module = format!("k8s.io/kubernetes@v{KUBERNETES}");
        let download = process::capture(&mut self.go(&source, &["mod", "download", "-json", &module]))?;
        let download: serde_json::Value =
            serde_json::from_slice(&download.stdout).map_err(|_| ProgramError::NoSource)?;
        let folder = Path::new(download["Dir"].as_str().ok_or(ProgramError::NoSource)?);
        let go_mod = fs::read_to_string(folder.join("go.mod")).map_err(|_| ProgramError::NoSource)?;
        write(&source.join("go.mod"), &module_for(&go_mod))?;
        let mut tools = "//go:build tools\n\npackage tools\n\n".to_owned();
        for program in KUBERNETES_PROGRAMS {
            // Writing to a string does not fail.
            let _ = writeln!(tools, "import _ \"k8s.io/kubernetes/cmd/{program}\"");
        }
        write(&source.join("tools.go"), &tools)?;
        process::capture(&mut self.go(&source, &["mod", "tidy"]))?;
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
            self.build(&source, program, &linker, &format!("k8s.io/kubernetes/cmd/{program}"))?;
        }
        Ok(())
    }
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

    #[test]
    fn a_program_of_another_version_is_built_anew() {
        let folder = tempfile::tempdir().unwrap();
        let helm = &CLUSTER_BUILDS[0];
        assert!(!is_built(helm, folder.path()));
        write(&folder.path().join("bin/helm"), "a program").unwrap();
        write(&record(folder.path(), "helm"), HELM).unwrap();
        assert!(is_built(helm, folder.path()));
        write(&record(folder.path(), "helm"), "3.0.0").unwrap();
        assert!(!is_built(helm, folder.path()));
    }

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        assert!(find("sh").is_some());
        assert!(find("/bin/sh").is_some());
        assert_eq!(find("reverie-no-such-program"), None);
    }
}
