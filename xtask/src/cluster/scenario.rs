//! The story of a release, step by step, each told with its duration.

use std::error::Error;
use std::time::{Duration, Instant};

use super::access::Access;
use super::disruption::{all_serve, drain, second_eviction_is_refused};
use super::draw;
use super::extras;
use super::layout::NODES;
use super::load::Load;
use super::pod_times::seconds_to_ready;
use super::release::{PIPELINE, Release};
use super::scaling;
use crate::onnxruntime::ORT_DYLIB_PATH;
use crate::{guides, wait};

/// Those whose commands need a cluster.
const GUIDES: [&str; 3] = ["kubernetes", "observe", "upgrade"];
/// Where they install.
pub(super) const GUIDES_NAMESPACE: &str = "reverie";

/// Runs one step and says how long it took.
pub(super) fn step<T>(
    name: &str,
    run: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    wait::go_on()?;
    let began = Instant::now();
    let outcome = run();
    let ending = if outcome.is_ok() { "" } else { "  FAILED" };
    println!("{name:<58} {:>7.1} s{ending}", began.elapsed().as_secs_f64());
    outcome.map_err(|error| format!("{name}: {error}").into())
}

/// From `helm install` to `helm uninstall`.
pub(super) fn run(release: &Release<'_>, client: &draw::Client<'_>) -> Result<(), Box<dyn Error>> {
    let access = release.access;
    step("install, all pods ready", || release.install())?;
    for (pod, seconds) in slowest_to_ready(access)? {
        println!("  {pod:<56} {seconds:>7} s to Ready");
    }
    step("helm test", || release.test())?;
    step("draw through the Service, as in one process", || client.draws_the_same(access))?;
    let drawn = step("upgrade under load", || {
        let load = Load::start(access)?;
        release.upgrade(&["telemetry.logFilter=\"info,reverie_service_kit=info\""])?;
        all_serve(access)?;
        load.more_images()?;
        load.end()
    })?;
    println!("  {drawn} images drawn meanwhile, every call with an image");
    step("broken rollout: held, old pods serve, undone", || {
        release.upgrade_and_go_on(&["denoiser.image.tag=\"no-such-tag\""])?;
        rollout_is_stuck(access)?;
        client.draws_the_same(access)?;
        release.roll_back()?;
        all_serve(access)?;
        client.draws_the_same(access)
    })?;
    step("budget: one eviction let through, the next refused", || {
        second_eviction_is_refused(access, "denoiser")
    })?;
    if access.is_own() {
        let drawn = step("drain of a node under load", || {
            let load = Load::start(access)?;
            drain(access, NODES[1].name)?;
            load.more_images()?;
            load.end()
        })?;
        println!("  {drawn} images drawn meanwhile, every call with an image");
        let scaled = step("scale on the backlog, up and down", || scaling::on_backlog(release))?;
        let scaling::Scaled { ready, first_image, drawn } = scaled;
        println!(
            "  a new pod ready after {ready} s, its first image drawn after {first_image} s; {drawn} images, every call with one"
        );
    } else {
        println!("drain, scale: left out, since nodes and metrics API of --context are not this command's");
    }
    step("uninstall, nothing left", || {
        let left = release.uninstall()?;
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {}", left.join(", ")).into()) }
    })?;
    let volume = tempfile::tempdir()?;
    let extras = extras::provide(access, volume.path())?;
    for guide in GUIDES {
        step(&format!("docs/guides/{guide}.md"), || follow(guide, access, client, extras))?;
    }
    Ok(())
}

/// Runs the commands of a guide, which installs into a namespace of its own.
fn follow(
    guide: &str,
    access: &Access,
    client: &draw::Client<'_>,
    extras: &[&str],
) -> Result<(), Box<dyn Error>> {
    let programs = client.reverie.parent().ok_or("the command has no folder")?;
    let mut bash = access.bash(&[programs])?;
    bash.env(ORT_DYLIB_PATH, &client.onnxruntime);
    let outcome = guides::follow(client.workspace, guide, bash, extras);
    // One that ended early has not removed it.
    let _ = access.run(&["delete", "namespace", GUIDES_NAMESPACE, "--ignore-not-found", "--timeout=120s"]);
    outcome
}

/// Waits until the new pod of the broken revision cannot get its image, while all old ones stay.
fn rollout_is_stuck(access: &Access) -> Result<(), Box<dyn Error>> {
    let pods = ["pods", "--selector=app.kubernetes.io/component=denoiser"];
    wait::until("the pod with the missing image", Duration::from_mins(1), || {
        let pods = access.get(&pods).ok()?;
        pods.iter().find_map(|pod| {
            let reason = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str()?;
            ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"].contains(&reason).then_some(())
        })
    })?;
    let deployment = access.get(&["deployment", "reverie-denoiser"])?;
    match deployment.first().and_then(|deployment| deployment["status"]["readyReplicas"].as_u64()) {
        Some(2) => Ok(()),
        ready => Err(format!("the broken rollout left {} of 2 old pods", ready.unwrap_or(0)).into()),
    }
}

/// The slowest pod of each component, from its creation to Ready.
fn slowest_to_ready(access: &Access) -> Result<Vec<(String, u64)>, Box<dyn Error>> {
    let mut slowest = std::collections::BTreeMap::<String, u64>::new();
    for pod in access.get(&["pods"])? {
        let component = pod["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or(PIPELINE);
        if let Some(seconds) = seconds_to_ready(&pod) {
            let slot = slowest.entry(component.to_owned()).or_default();
            *slot = (*slot).max(seconds);
        }
    }
    Ok(slowest.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named() {
        let error = step("a step", || Err::<(), _>("a reason".into())).unwrap_err();
        assert_eq!(error.to_string(), "a step: a reason");
    }
}
