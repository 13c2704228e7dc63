//! What some blocks of the guides need that a bare cluster does not have.

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::access::Access;
use crate::chart;
use crate::guides::{OPERATORS, SHARED_VOLUME};

/// Adds it to a cluster of our own, whose volume is `folder`, and says what there is. Another's cluster stays as it is.
pub(super) fn provide(access: &Access, folder: &Path) -> Result<&'static [&'static str], Box<dyn Error>> {
    if !access.is_own() {
        println!(
            "blocks of guides that need {OPERATORS} or a {SHARED_VOLUME}: left out, since they would change the cluster of --context"
        );
        return Ok(&[]);
    }
    // The kinds without their operators: the API server checks the objects, and nobody acts on them. On the server's side, since they
    // are too large for the annotation that kubectl would keep.
    let crds = chart::crds()?.display().to_string();
    access.run(&["apply", "--server-side", "--filename", &crds])?;
    access.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
    // Pods have users of their own.
    fs::set_permissions(folder, Permissions::from_mode(0o777))?;
    access.apply(&json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": SHARED_VOLUME},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "hostPath": {"path": folder}},
    }))?;
    Ok(&[OPERATORS, SHARED_VOLUME])
}
