//! Pods taken away on purpose: by eviction, as a drain does it, and by draining a node.

use std::error::Error;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::access::{Access, NAMESPACE};
use super::release::RELEASE;
use crate::wait;

/// Evicts both pods of a component at once: the disruption budget must let one go and keep the other.
pub(super) fn second_eviction_is_refused(access: &Access, component: &str) -> Result<(), Box<dyn Error>> {
    let pods = pods_of(access, component)?;
    let [first, second] = pods.as_slice() else {
        return Err(format!("{component} must have two pods that serve (has {})", pods.len()).into());
    };
    evict(access, first)?;
    let refused = match evict(access, second) {
        Ok(()) => return Err(format!("both pods of {component} were evicted at once").into()),
        Err(error) => error.to_string(),
    };
    if !refused.contains("disruption budget") {
        return Err(format!("the second eviction was refused for another reason: {refused}").into());
    }
    all_serve(access)
}

/// Empties a node; its pods start elsewhere, each when the budget allows.
pub(super) fn drain(access: &Access, node: &str) -> Result<(), Box<dyn Error>> {
    access.run(&["drain", node, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=240s"])?;
    all_serve(access)?;
    access.run(&["uncordon", node])?;
    Ok(())
}

/// Waits until every Deployment of the release has all its pods ready.
pub(super) fn all_serve(access: &Access) -> Result<(), Box<dyn Error>> {
    let selector = format!("--selector=app.kubernetes.io/instance={RELEASE}");
    let mut failure = None;
    wait::until("all pods to serve", Duration::from_mins(4), || {
        match access.get(&["deployments", &selector]) {
            Ok(deployments) => (!deployments.is_empty() && deployments.iter().all(is_complete)).then_some(()),
            Err(error) => {
                failure = Some(error);
                Some(())
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
}

/// Whether a Deployment has as many ready pods of its newest revision as it wants, and no others.
fn is_complete(deployment: &Value) -> bool {
    let status = |key: &str| deployment["status"][key].as_u64().unwrap_or(0);
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "readyReplicas"].iter().all(|key| status(key) == wanted)
}

/// The living pods of a component.
pub(super) fn pods_of(access: &Access, component: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let selector =
        format!("--selector=app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}");
    let pods = access.get(&["pods", &selector])?;
    let living = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(living.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

fn evict(access: &Access, pod: &str) -> Result<(), Box<dyn Error>> {
    let file = tempfile::NamedTempFile::new()?;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}});
    fs::write(file.path(), eviction.to_string())?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
    access.run(&["create", "--raw", &path, "--filename", &file.path().display().to_string()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_complete_when_only_new_ready_pods_are_left() {
        let deployment = |replicas: u64, updated: u64, ready: u64, observed: u64| {
            json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {
                "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
                "observedGeneration": observed}})
        };
        assert!(is_complete(&deployment(2, 2, 2, 2)));
        assert!(!is_complete(&deployment(3, 2, 2, 2)), "an old pod is left");
        assert!(!is_complete(&deployment(2, 1, 2, 2)), "one is not replaced");
        assert!(!is_complete(&deployment(2, 2, 1, 2)), "one is not ready");
        assert!(!is_complete(&deployment(2, 2, 2, 1)), "the change has not been seen yet");
    }
}
