//! What is kept of a run that failed: events, descriptions and the logs of every container and daemon.

use std::fs;
use std::path::Path;

use super::access::Access;

/// Writes them to `folder`, whose older content goes. What cannot be had is left out: the failure itself is reported anyway.
pub(super) fn gather(access: &Access, daemon_logs: Option<&Path>, folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let _ = fs::create_dir_all(folder);
    let save = |name: &str, arguments: &[&str]| {
        if let Ok(text) = access.run(arguments) {
            let _ = fs::write(folder.join(name), text);
        }
    };
    save("objects.txt", &["get", "all", "--output=wide"]);
    save("nodes.txt", &["describe", "nodes"]);
    save("events.txt", &["events", "--all-namespaces"]);
    save("pods.txt", &["describe", "pods"]);
    for pod in access.get(&["pods"]).unwrap_or_default() {
        let Some(name) = pod["metadata"]["name"].as_str() else { continue };
        save(&format!("{name}.log"), &["logs", name, "--all-containers", "--prefix"]);
        save(&format!("{name}.previous.log"), &["logs", name, "--all-containers", "--previous"]);
    }
    for log in daemon_logs.and_then(|logs| fs::read_dir(logs).ok()).into_iter().flatten().flatten() {
        let _ = fs::copy(log.path(), folder.join(log.file_name()));
    }
}
