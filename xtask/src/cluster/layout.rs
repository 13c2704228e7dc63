//! Names and addresses of the test cluster. Each node is a network namespace, so none of them is taken from the machine.

/// A node: a network namespace with a kubelet and a containerd of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// The name in the cluster.
    pub(super) name: &'static str,
    /// Its network namespace.
    pub(super) namespace: &'static str,
    /// Its end of the cable between the nodes; at most 15 characters.
    pub(super) link: &'static str,
    /// Its address.
    pub(super) address: &'static str,
    /// The addresses of its pods.
    pub(super) pods: &'static str,
}

/// Two, so that one can be drained while the other serves. The control plane runs beside the first.
pub(super) const NODES: [Node; 2] = [
    Node {
        name: "node1",
        namespace: "reverie-node1",
        link: "reverie-link1",
        address: API_ADDRESS,
        pods: "10.244.1.0/24",
    },
    Node {
        name: "node2",
        namespace: "reverie-node2",
        link: "reverie-link2",
        address: "10.200.0.2",
        pods: "10.244.2.0/24",
    },
];

/// Where the API server, DNS and the metrics adapter listen. Not a loopback address: kubelet refuses those.
pub(super) const API_ADDRESS: &str = "10.200.0.1";
/// The API server.
pub(super) const API_URL: &str = "https://10.200.0.1:6443";
/// etcd.
pub(super) const ETCD_URL: &str = "https://10.200.0.1:2379";
/// Of all pods.
pub(super) const POD_RANGE: &str = "10.244.0.0/16";
/// Of all Services.
pub(super) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The Service `kubernetes`: the first of the range.
pub(super) const SERVICE_OF_API: &str = "10.96.0.1";
/// Pods' sandboxes are made of it.
pub(super) const PAUSE_IMAGE: &str = "localhost/pause:3.10";
