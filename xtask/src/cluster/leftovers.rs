//! Clears what kubelet and containerd leave when they are ended: containers, their networks, mounts and cgroups.
//!
//! Everything is found by the path of the run's folder or by a container's own process, so nothing of anybody else's
//! containers on this machine is touched.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::layout::NODES;

/// Ends the containers of the run in `run`, and removes its networks, mounts, cgroups and files. What is not there is
/// no error: this also runs before a cluster is brought up, for a run that was killed.
pub(super) fn clear(run: &Path) {
    let mut networks = Vec::new();
    let mut cgroups = Vec::new();
    for shim in processes_naming(run) {
        for process in children(shim).into_iter().chain([shim]) {
            networks.extend(fs::metadata(format!("/proc/{process}/ns/net")).map(|file| file.ino()));
            if process != shim {
                cgroups.extend(cgroups_of(process));
            }
            quietly("kill", &["-KILL", &process.to_string()]);
        }
    }
    for folder in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        // The shims' own network is a node's, which is removed below.
        let is_of_a_pod = name.starts_with("cni-")
            && folder.path().metadata().is_ok_and(|file| networks.contains(&file.ino()));
        if is_of_a_pod {
            quietly("ip", &["netns", "del", &name]);
        }
    }
    unmount_below(run);
    for node in &NODES {
        quietly("ip", &["netns", "del", node.namespace]);
        // Results of the network plugins, by the network's name.
        for result in fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten() {
            if result.file_name().to_string_lossy().starts_with(&format!("reverie-{}-", node.name)) {
                let _ = fs::remove_file(result.path());
            }
        }
    }
    for cgroup in cgroups {
        let _ = fs::remove_dir(cgroup);
    }
    let _ = fs::remove_dir_all(run);
}

/// Processes whose command line names the folder: containers' shims, and daemons that outlived their parent.
fn processes_naming(folder: &Path) -> Vec<u32> {
    let needle = format!("{}/", folder.display());
    let own = std::process::id();
    numbered_folders(Path::new("/proc"))
        .filter(|process| *process != own)
        .filter(|process| {
            fs::read(format!("/proc/{process}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&needle))
        })
        .collect()
}

fn numbered_folders(folder: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

fn children(process: u32) -> Vec<u32> {
    let threads = PathBuf::from(format!("/proc/{process}/task"));
    numbered_folders(&threads)
        .filter_map(|thread| fs::read_to_string(threads.join(format!("{thread}/children"))).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The folders of a process' cgroups, of either version.
fn cgroups_of(process: u32) -> Vec<PathBuf> {
    let lines = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    lines
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
            if path.is_empty() {
                return None;
            }
            let hierarchy = controllers.trim_start_matches("name=");
            Some(Path::new("/sys/fs/cgroup").join(hierarchy).join(path))
        })
        .collect()
}

fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<_> = points.filter(|point| Path::new(point).starts_with(folder)).collect();
    // Inner mounts before those that hold them.
    below.reverse();
    for point in below {
        quietly("umount", &["--lazy", point]);
    }
}

fn quietly(program: &str, arguments: &[&str]) {
    let _ = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_by_the_folder_they_name_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        let other = folder.path().join("runner");
        let start = |path: &Path| {
            // The name goes where a shim has its socket: among the arguments.
            let socket = path.join("socket");
            let mut tail = Command::new("tail");
            let child = tail.args(["-f", "/dev/null"]).arg(&socket).stderr(Stdio::null()).spawn().unwrap();
            // What is looked for has to be seen before it is looked for.
            let line = format!("/proc/{}/cmdline", child.id());
            while !fs::read_to_string(&line).unwrap().contains(socket.to_str().unwrap()) {
                std::thread::yield_now();
            }
            child
        };
        let (mut of_the_run, mut of_another) = (start(&run), start(&other));
        clear(&run);
        // One that was missed is a failure, and not a wait without end.
        let missed = (0..500).all(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            of_the_run.try_wait().unwrap().is_none()
        });
        if missed {
            of_the_run.kill().unwrap();
            of_another.kill().unwrap();
            panic!("a process of the folder was not ended");
        }
        assert!(!of_the_run.wait().unwrap().success());
        assert!(of_another.try_wait().unwrap().is_none(), "a process of another folder was ended");
        of_another.kill().unwrap();
        of_another.wait().unwrap();
        assert!(!run.exists());
    }
}
