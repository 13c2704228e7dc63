//! The API that autoscalers ask for metrics, in a cluster that has no adapter of its own.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::access::{Access, NAMESPACE};
use super::certificates::Certificates;
use super::control_plane::beside_first_node;
use super::daemon::Daemon;
use super::layout::API_ADDRESS;

const SCRIPT: &str = include_str!("metrics_adapter.py");
/// Of its Service and its certificate.
pub(super) const NAME: &str = "metrics-adapter";
const PORT: u16 = 16500;

/// How the API server knows it.
pub(super) fn host() -> String {
    format!("{NAME}.{NAMESPACE}.svc")
}

/// Starts it beside the first node, from where it reaches pods.
pub(super) fn start(bin: &Path, keys: &Certificates, run: &Path) -> io::Result<Daemon> {
    let script = run.join("metrics_adapter.py");
    fs::write(&script, SCRIPT)?;
    let mut python = Command::new("python3");
    python.arg(script).args([API_ADDRESS, &PORT.to_string()]);
    python.args([keys.file(&format!("{NAME}.crt")), keys.file(&format!("{NAME}.key"))]);
    python.args([bin.join("kubectl"), keys.kubeconfig("admin")]);
    beside_first_node(NAME, &python, run)
}

/// Lets the API server pass questions on to it, and the autoscalers ask.
pub(super) fn register(access: &Access) -> Result<(), Box<dyn Error>> {
    let authority = access.authority()?;
    let group = "external.metrics.k8s.io";
    let account = "horizontal-pod-autoscaler";
    access.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
         "spec": {"ports": [{"port": 443, "targetPort": PORT}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
         "ports": [{"name": "", "port": PORT, "protocol": "TCP"}],
         "endpoints": [{"addresses": [API_ADDRESS], "conditions": {"ready": true}}]},
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": format!("v1beta1.{group}")},
         "spec": {"group": group, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                  "service": {"namespace": NAMESPACE, "name": NAME}, "caBundle": authority}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": NAME},
         "rules": [{"apiGroups": [group], "resources": ["*"], "verbs": ["get", "list"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": NAME},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
         "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}]},
    ]}))?;
    access.run(&[
        "wait",
        "--for=condition=Available",
        &format!("apiservice/v1beta1.{group}"),
        "--timeout=180s",
    ])?;
    Ok(())
}
