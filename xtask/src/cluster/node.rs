//! One node: containerd, kubelet and kube-proxy in a network namespace.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::certificates::Certificates;
use super::daemon::Daemon;
use super::layout::{API_ADDRESS, Node, PAUSE_IMAGE, POD_RANGE};
use crate::process;
use crate::wait;

const CONTAINERD: &str = include_str!("node/containerd.toml");
const NETWORK: &str = include_str!("node/network.conflist");
const KUBELET: &str = include_str!("node/kubelet.yaml");
const KUBE_PROXY: &str = include_str!("node/kube-proxy.yaml");

/// A program that runs in a network namespace.
pub(super) fn within(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
    command
}

/// Starts containerd and waits until it answers.
pub(super) fn containerd(node: &Node, run: &Path) -> Result<Daemon, Box<dyn Error>> {
    let own = folder(node, run);
    fs::create_dir_all(own.join("cni"))?;
    let fill = |template: &str| fill(template, node, run, Path::new(""));
    fs::write(own.join("containerd.toml"), fill(CONTAINERD))?;
    fs::write(own.join("cni/network.conflist"), fill(NETWORK))?;
    let mut program = Command::new("containerd");
    program.arg("--config").arg(own.join("containerd.toml"));
    let name = format!("containerd-{}", node.name);
    let mut daemon = Daemon::start(&name, node.namespace, &program, &run.join("logs"))?;
    wait::until("containerd", Duration::from_secs(30), || {
        (process::succeeds(ctr(node, run).arg("version")) || daemon.has_ended()).then_some(())
    })?;
    Ok(daemon)
}

/// Puts images into the node's store, where no registry is needed.
pub(super) fn import(node: &Node, run: &Path, archives: &[&PathBuf]) -> Result<(), process::ProcessError> {
    for archive in archives {
        process::capture(ctr(node, run).args(["images", "import"]).arg(archive))?;
    }
    Ok(())
}

/// Starts kubelet, which registers the node, and kube-proxy.
pub(super) fn join(
    node: &Node,
    bin: &Path,
    keys: &Certificates,
    run: &Path,
) -> Result<(Daemon, Daemon), Box<dyn Error>> {
    let own = folder(node, run);
    let keys_folder = run.join("keys");
    let fill = |template: &str| fill(template, node, run, &keys_folder);
    fs::write(own.join("kubelet.yaml"), fill(KUBELET))?;
    fs::write(own.join("kube-proxy.yaml"), fill(KUBE_PROXY))?;
    // Pods ask the cluster's DNS and nobody else.
    fs::write(own.join("resolv.conf"), "")?;
    let mut kubelet = Command::new(bin.join("kubelet"));
    kubelet.arg("--config").arg(own.join("kubelet.yaml"));
    kubelet.arg("--kubeconfig").arg(keys.kubeconfig(node.name));
    kubelet.arg("--root-dir").arg(own.join("kubelet")).arg("--cert-dir").arg(own.join("kubelet-keys"));
    kubelet.args(["--hostname-override", node.name, "--node-ip", node.address]);
    let logs = run.join("logs");
    let kubelet = Daemon::start(&format!("kubelet-{}", node.name), node.namespace, &kubelet, &logs)?;
    let mut proxy = Command::new(bin.join("kube-proxy"));
    proxy.arg("--config").arg(own.join("kube-proxy.yaml"));
    let proxy = Daemon::start(&format!("kube-proxy-{}", node.name), node.namespace, &proxy, &logs)?;
    Ok((kubelet, proxy))
}

fn folder(node: &Node, run: &Path) -> PathBuf {
    run.join(node.name)
}

/// containerd's own client, in the namespace of containers that kubelet uses.
fn ctr(node: &Node, run: &Path) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(folder(node, run).join("containerd.sock")).args(["--namespace", "k8s.io"]);
    command
}

fn fill(template: &str, node: &Node, run: &Path, keys: &Path) -> String {
    [
        ("@RUN@", folder(node, run).display().to_string().as_str()),
        ("@KEYS@", &keys.display().to_string()),
        ("@NODE@", node.name),
        ("@ADDRESS@", node.address),
        ("@PODS@", node.pods),
        ("@POD_RANGE@", POD_RANGE),
        ("@API@", API_ADDRESS),
        ("@PAUSE@", PAUSE_IMAGE),
    ]
    .iter()
    .fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::super::layout::NODES;
    use super::*;

    #[test]
    fn no_name_of_a_template_is_left_unfilled() {
        for template in [CONTAINERD, NETWORK, KUBELET, KUBE_PROXY] {
            let filled = fill(template, &NODES[1], Path::new("/run"), Path::new("/keys"));
            assert!(!filled.contains('@'), "{filled}");
        }
    }
}
