//! Callers of the pipeline within the cluster: a Job whose pods draw one image each through the Service, as fast as they can.

use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};

use super::access::Access;
use super::release::{CLIENT_IMAGE, PIPELINE, RELEASE};
use crate::wait;

const JOB: &str = "load";
/// Callers at a time.
const CALLERS: u32 = 2;

/// Load that runs until it is ended.
pub(super) struct Load<'a> {
    access: &'a Access,
}

impl<'a> Load<'a> {
    /// Starts the callers and waits until the first images are drawn.
    pub(super) fn start(access: &'a Access) -> Result<Self, Box<dyn Error>> {
        access.apply(&job())?;
        let this = Self { access };
        this.more_images()?;
        Ok(this)
    }

    /// Waits for images that were asked for after this call; fails if a call failed.
    pub(super) fn more_images(&self) -> Result<(), Box<dyn Error>> {
        let seen = self.drawn()?;
        // Of the calls that are under way now, each of the callers has one.
        let wanted = seen + u64::from(CALLERS) + 1;
        let mut failure = None;
        wait::until("more images of the load", Duration::from_mins(2), || match self.drawn() {
            Ok(drawn) => (drawn >= wanted).then_some(()),
            Err(error) => {
                failure = Some(error);
                Some(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Ends the load and returns how many images were drawn; an error if a single call failed.
    pub(super) fn end(self) -> Result<u64, Box<dyn Error>> {
        let drawn = self.drawn()?;
        self.access.run(&["delete", "job", JOB, "--cascade=foreground", "--timeout=60s"])?;
        Ok(drawn)
    }

    fn drawn(&self) -> Result<u64, Box<dyn Error>> {
        let jobs = self.access.get(&["job", JOB])?;
        drawn_in(jobs.first().unwrap_or(&Value::Null))
    }
}

/// The images that a Job drew, or that a call failed.
fn drawn_in(job: &Value) -> Result<u64, Box<dyn Error>> {
    let count = |key: &str| job["status"][key].as_u64().unwrap_or(0);
    if count("failed") > 0 {
        let (failed, drawn) = (count("failed"), count("succeeded"));
        return Err(format!("{failed} calls failed under load after {drawn} images").into());
    }
    Ok(count("succeeded"))
}

fn job() -> Value {
    let draw = json!({
        "name": "draw", "image": CLIENT_IMAGE, "imagePullPolicy": "IfNotPresent",
        "args": ["generate", "a small zunin on the left, snow", "--server", format!("http://{PIPELINE}:7100"),
                 "--seed", "7", "--size", "64", "--out", "/out/image.png"],
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "out", "mountPath": "/out"}],
    });
    // The labels that the chart's network policies know its test by.
    let labels = json!({
        "app.kubernetes.io/name": "reverie", "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/component": "test",
    });
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": JOB},
        "spec": {
            "parallelism": CALLERS, "completions": 100_000, "backoffLimit": 0,
            "template": {"metadata": {"labels": labels}, "spec": {
                "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                // Callers are not what is drained.
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "preference": {"matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}]}}]}},
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                                    "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [draw],
                "volumes": [{"name": "out", "emptyDir": {"sizeLimit": "16Mi"}}],
            }},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_call_is_a_failure_however_many_images_were_drawn() {
        assert_eq!(drawn_in(&json!({"status": {"succeeded": 12}})).unwrap(), 12);
        assert_eq!(drawn_in(&json!({"status": {}})).unwrap(), 0);
        let error = drawn_in(&json!({"status": {"succeeded": 900, "failed": 1}})).unwrap_err();
        assert_eq!(error.to_string(), "1 calls failed under load after 900 images");
    }
}
