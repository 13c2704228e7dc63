//! Scaling on the metric of the chart's autoscalers: pods come while there is a backlog, and go after it.

use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};

use super::access::{Access, NAMESPACE};
use super::disruption::pods_of;
use super::load::Load;
use super::metrics_adapter;
use super::pod_times::{second_of_day, seconds_between, seconds_to_ready};
use super::release::Release;
use crate::wait;

const COMPONENT: &str = "denoiser";
/// One pod while there is nothing to do, and so low a target that two callers are too many for it.
const VALUES: [&str; 4] = [
    "denoiser.autoscaling.enabled=true",
    "denoiser.autoscaling.maxReplicas=2",
    "denoiser.autoscaling.target=0.02",
    "denoiser.autoscaling.scaleDownSeconds=15",
];
const PATIENCE: Duration = Duration::from_mins(3);

/// How long the new pod took, from when it was made, seconds.
pub(super) struct Scaled {
    /// Until it was ready.
    pub(super) ready: u64,
    /// Until it was seen to have drawn its part of an image.
    pub(super) first_image: u64,
    /// Images drawn meanwhile.
    pub(super) drawn: u64,
}

/// Draws until there is a second pod that draws, and waits until it is gone again. Of a call, none may fail.
pub(super) fn on_backlog(release: &Release<'_>) -> Result<Scaled, Box<dyn Error>> {
    let access = release.access;
    metrics_adapter::register(access)?;
    release.upgrade(&VALUES)?;
    wait::until("one pod without a backlog", PATIENCE, || {
        (replicas(access, "replicas")? == 1 && replicas(access, "readyReplicas")? == 1).then_some(())
    })?;
    let before = pods_of(access, COMPONENT)?;
    let load = Load::start(access)?;
    // Whichever: one that came when the backlog was shortest may go again before it has drawn.
    let pod = wait::until("an image drawn by a second pod", PATIENCE, || {
        let pods = pods_of(access, COMPONENT).ok()?;
        let drawn = pods.into_iter().find(|pod| !before.contains(pod) && has_finished(access, pod))?;
        access.get(&["pod", &drawn]).ok()
    })?;
    let now = UNIX_EPOCH.elapsed()?.as_secs() % 86_400;
    let created = pod.first().and_then(|pod| second_of_day(pod["metadata"]["creationTimestamp"].as_str()?));
    let first_image = seconds_between(created.ok_or("the pod has no age")?, now);
    let ready = pod.first().and_then(seconds_to_ready).ok_or("the pod was not ready")?;
    let drawn = load.end()?;
    wait::until("one pod after the load", PATIENCE, || (replicas(access, "replicas")? == 1).then_some(()))?;
    Ok(Scaled { ready, first_image, drawn })
}

/// A count in the status of the Deployment.
fn replicas(access: &Access, key: &str) -> Option<u64> {
    let deployment = access.get(&["deployment", &format!("reverie-{COMPONENT}")]).ok()?;
    Some(deployment.first()?["status"][key].as_u64().unwrap_or(0))
}

/// Whether calls to draw have ended well on a pod.
fn has_finished(access: &Access, pod: &str) -> bool {
    let admin = || {
        let pod = access.get(&["pod", pod]).ok()?;
        let ports = pod.first()?["spec"]["containers"][0]["ports"].as_array()?.iter();
        ports.into_iter().find(|port| port["name"] == "admin")?["containerPort"].as_u64()
    };
    let page = |port: u64| {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:{port}/proxy/metrics");
        access.run(&["get", "--raw", &path]).ok()
    };
    admin().and_then(page).is_some_and(|metrics| has_drawn(&metrics))
}

fn has_drawn(metrics: &str) -> bool {
    let counts = metrics.lines().filter(|line| {
        line.starts_with("rpc_server_call_duration_seconds_count{")
            && line.contains("/Denoise\"")
            && line.contains("rpc_response_status_code=\"OK\"")
    });
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() > 0.0
}
