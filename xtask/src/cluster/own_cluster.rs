//! A real Kubernetes of our own: two nodes in two network namespaces, up in seconds, and nothing left of it afterwards.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::access::Access;
use super::certificates::Certificates;
use super::control_plane;
use super::daemon::Daemon;
use super::layout::{NODES, Node, SERVICE_RANGE};
use super::{leftovers, metrics_adapter, node, pause, wait};
use crate::process;

/// The running cluster; dropping it takes it down.
#[derive(Debug)]
pub(super) struct OwnCluster {
    /// In the order they were started.
    daemons: Vec<Daemon>,
    run: PathBuf,
    access: Access,
    /// Held as long as the cluster is up: its names and addresses exist once a machine.
    _lock: File,
}

impl OwnCluster {
    /// Brings it up with the images of `archives`. `folder` holds the programs, and everything that runs below `run`.
    pub(super) fn up(folder: &Path, archives: &[PathBuf]) -> Result<Self, Box<dyn Error>> {
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock()
            .map_err(|_| "another `cargo xtask cluster` runs on this machine: wait for its end")?;
        let run = folder.join("run");
        // Of a run that was killed.
        leftovers::clear(&run);
        let keys_folder = run.join("keys");
        fs::create_dir_all(&keys_folder)?;
        let pause = pause::archive(folder)?;
        let keys = Certificates::make(&keys_folder, &NODES)?;
        let bin = folder.join("bin");
        let access = Access::own(bin.join("kubectl"), bin.join("helm"), &keys, &run);
        // From here on a failure takes down what was started.
        let mut this = Self { daemons: Vec::new(), run, access, _lock: lock };
        network()?;
        control_plane::start(&bin, &keys, &this.run, &mut this.daemons)?;
        wait::until("the API server", Duration::from_mins(2), || this.access.is_ready().then_some(()))?;
        control_plane::start_controllers(&bin, &keys, &this.run, &mut this.daemons)?;
        this.daemons.push(metrics_adapter::start(&bin, &keys, &this.run)?);
        for node in &NODES {
            let containerd = node::containerd(node, &this.run)?;
            this.daemons.push(containerd);
        }
        let archives: Vec<_> = std::iter::once(&pause).chain(archives).collect();
        for node in &NODES {
            node::import(node, &this.run, &archives)?;
            let (kubelet, proxy) = node::join(node, &bin, &keys, &this.run)?;
            this.daemons.extend([kubelet, proxy]);
        }
        for node in &NODES {
            let name = format!("node/{}", node.name);
            this.access.run(&["wait", "--for=create", &name, "--timeout=60s"])?;
            this.access.run(&["wait", "--for=condition=Ready", &name, "--timeout=90s"])?;
        }
        Ok(this)
    }

    /// How to talk to it.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// What the cluster's own programs printed.
    pub(super) fn logs(&self) -> PathBuf {
        self.run.join("logs")
    }

    /// The programs that ended by themselves.
    pub(super) fn ended(&mut self) -> Vec<String> {
        self.daemons
            .iter_mut()
            .filter_map(|daemon| daemon.has_ended().then(|| daemon.name().to_owned()))
            .collect()
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        // First what would start pods again; then kubelet may end those that are left.
        for daemon in &mut self.daemons {
            if ["kube-controller-manager", "kube-scheduler"].contains(&daemon.name()) {
                daemon.stop();
            }
        }
        let _ = self.access.run(&["delete", "pods", "-A", "--all", "--grace-period=1", "--timeout=30s"]);
        // The rest, the newest first: nodes before the control plane.
        while let Some(mut daemon) = self.daemons.pop() {
            daemon.stop();
        }
        leftovers::clear(&self.run);
    }
}

/// Two namespaces and a cable between them; pods and Services are reached through the nodes.
fn network() -> Result<(), Box<dyn Error>> {
    for Node { namespace, .. } in &NODES {
        ip(&["netns", "add", namespace])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        process::capture(node::within(namespace, "sysctl").args(["-qw", "net.ipv4.ip_forward=1"]))?;
    }
    let [first, second] = &NODES;
    ip(&[
        "link",
        "add",
        first.link,
        "netns",
        first.namespace,
        "type",
        "veth",
        "peer",
        "name",
        second.link,
        "netns",
        second.namespace,
    ])?;
    for (node, other) in [(first, second), (second, first)] {
        ip(&["-n", node.namespace, "addr", "add", &format!("{}/24", node.address), "dev", node.link])?;
        ip(&["-n", node.namespace, "link", "set", node.link, "up"])?;
        ip(&["-n", node.namespace, "route", "add", other.pods, "via", other.address])?;
        // Only a route makes the kernel ask the rules of kube-proxy, which then choose a pod.
        ip(&["-n", node.namespace, "route", "add", SERVICE_RANGE, "dev", node.link])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<(), process::ProcessError> {
    process::capture(Command::new("ip").args(arguments)).map(drop)
}
