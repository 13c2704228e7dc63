//! What makes nodes a cluster: etcd, the API server, the controllers, the scheduler and DNS, beside the first node.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::certificates::Certificates;
use super::daemon::Daemon;
use super::layout::{API_ADDRESS, ETCD_URL, NODES, SERVICE_RANGE};

const COREFILE: &str = include_str!("node/Corefile");

/// Starts etcd and the API server.
pub(super) fn start(
    bin: &Path,
    keys: &Certificates,
    run: &Path,
    daemons: &mut Vec<Daemon>,
) -> io::Result<()> {
    let key = |name: &str| keys.file(name).display().to_string();
    let mut etcd = Command::new(bin.join("etcd"));
    etcd.arg("--data-dir").arg(run.join("etcd"));
    // The data is dropped with the cluster, so no write waits for the disk.
    etcd.args(["--name", "etcd", "--unsafe-no-fsync", "--log-level", "warn", "--client-cert-auth"]);
    etcd.args(["--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL]);
    let peers = "http://127.0.0.1:2380";
    etcd.args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]);
    etcd.args(["--initial-cluster", &format!("etcd={peers}")]);
    etcd.args(["--cert-file", &key("etcd.crt"), "--key-file", &key("etcd.key")]);
    etcd.args(["--trusted-ca-file", &key("ca.crt")]);
    daemons.push(beside_first_node("etcd", &etcd, run)?);

    let mut api = Command::new(bin.join("kube-apiserver"));
    api.args(["--bind-address", API_ADDRESS, "--advertise-address", API_ADDRESS, "--secure-port", "6443"]);
    api.args(["--etcd-servers", ETCD_URL, "--etcd-cafile", &key("ca.crt")]);
    api.args([
        "--etcd-certfile",
        &key("apiserver-client.crt"),
        "--etcd-keyfile",
        &key("apiserver-client.key"),
    ]);
    api.args(["--tls-cert-file", &key("apiserver.crt"), "--tls-private-key-file", &key("apiserver.key")]);
    api.args(["--client-ca-file", &key("ca.crt"), "--kubelet-certificate-authority", &key("ca.crt")]);
    api.args(["--kubelet-client-certificate", &key("apiserver-client.crt")]);
    api.args(["--kubelet-client-key", &key("apiserver-client.key")]);
    api.args(["--kubelet-preferred-address-types", "InternalIP"]);
    // Requests for a metrics API are passed on as the user's who made them.
    api.args(["--requestheader-client-ca-file", &key("front-ca.crt")]);
    api.args(["--requestheader-allowed-names", "front-proxy"]);
    api.args(["--requestheader-username-headers", "X-Remote-User"]);
    api.args(["--requestheader-group-headers", "X-Remote-Group"]);
    api.args(["--requestheader-extra-headers-prefix", "X-Remote-Extra-"]);
    api.args(["--proxy-client-cert-file", &key("front-client.crt")]);
    api.args(["--proxy-client-key-file", &key("front-client.key"), "--enable-aggregator-routing=true"]);
    api.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
    api.args(["--service-account-key-file", &key("service-accounts.pub")]);
    api.args(["--service-account-signing-key-file", &key("service-accounts.key")]);
    api.args(["--service-cluster-ip-range", SERVICE_RANGE, "--authorization-mode", "Node,RBAC"]);
    api.args(["--enable-admission-plugins", "NodeRestriction", "--allow-privileged=true"]);
    daemons.push(beside_first_node("kube-apiserver", &api, run)?);
    Ok(())
}

/// Starts what needs the API server: controllers, scheduler and DNS.
pub(super) fn start_controllers(
    bin: &Path,
    keys: &Certificates,
    run: &Path,
    daemons: &mut Vec<Daemon>,
) -> io::Result<()> {
    let key = |name: &str| keys.file(name).display().to_string();
    let program = |name: &str| {
        let mut command = Command::new(bin.join(name));
        let kubeconfig = keys.kubeconfig(name).display().to_string();
        for option in ["--kubeconfig", "--authentication-kubeconfig", "--authorization-kubeconfig"] {
            command.args([option, &kubeconfig]);
        }
        command.args(["--bind-address", "127.0.0.1", "--leader-elect=false"]);
        command
    };
    let mut controllers = program("kube-controller-manager");
    controllers.args(["--service-account-private-key-file", &key("service-accounts.key")]);
    controllers.args(["--root-ca-file", &key("ca.crt"), "--use-service-account-credentials"]);
    // Scaling is tested, so it is looked at more often than every 15 s.
    controllers.args(["--horizontal-pod-autoscaler-sync-period", "2s"]);
    daemons.push(beside_first_node("kube-controller-manager", &controllers, run)?);
    daemons.push(beside_first_node("kube-scheduler", &program("kube-scheduler"), run)?);

    let corefile = run.join("Corefile");
    let keys_folder = run.join("keys").display().to_string();
    fs::write(&corefile, COREFILE.replace("@API@", API_ADDRESS).replace("@KEYS@", &keys_folder))?;
    let mut dns = Command::new(bin.join("coredns"));
    dns.arg("-conf").arg(corefile);
    daemons.push(beside_first_node("coredns", &dns, run)?);
    Ok(())
}

pub(super) fn beside_first_node(name: &str, program: &Command, run: &Path) -> io::Result<Daemon> {
    Daemon::start(name, NODES[0].namespace, program, &run.join("logs"))
}
