//! What a container may do, read from outside: the kernel's view of its process, and its files through `/proc/PID/root`.

use std::fs;
use std::io;
use std::path::Path;

use thiserror::Error;

/// The user and group that programs run as.
pub(super) const USER: u32 = 65532;
/// Programs that an intruder would look for.
const SHELLS: [&str; 6] =
    ["bin/sh", "bin/bash", "bin/busybox", "usr/bin/sh", "usr/bin/python3", "usr/bin/perl"];

/// What a container has and must not have.
#[derive(Debug, Error)]
pub(super) enum Loose {
    #[error("/proc/{pid}/{file} cannot be read")]
    Unreadable { pid: u32, file: &'static str, source: io::Error },
    #[error("{field} of the process is {found}; it must be {wanted}")]
    Status { field: &'static str, found: String, wanted: String },
    #[error("/{path} can be written to")]
    Writable { path: &'static str },
    #[error("/{path} refuses a file for another reason than being read-only")]
    Unclear { path: &'static str, source: io::Error },
    #[error("/{0} is inside")]
    Shell(&'static str),
}

/// Checks a process that runs in a container whose folders `read_only` are mounts.
pub(super) fn check(pid: u32, read_only: &[&'static str]) -> Result<(), Loose> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|source| Loose::Unreadable {
        pid,
        file: "status",
        source,
    })?;
    check_status(&status)?;
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    for path in [""].iter().chain(read_only) {
        let probe = root.join(path).join("probe-of-reverie");
        match fs::write(&probe, "") {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            Err(source) => return Err(Loose::Unclear { path, source }),
            Ok(()) => {
                let _ = fs::remove_file(&probe);
                return Err(Loose::Writable { path });
            }
        }
    }
    match SHELLS.into_iter().find(|shell| root.join(shell).symlink_metadata().is_ok()) {
        Some(shell) => Err(Loose::Shell(shell)),
        None => Ok(()),
    }
}

/// Real, effective, saved and file system ids; no capability, also none to be gained; a seccomp filter; no new privileges.
fn check_status(status: &str) -> Result<(), Loose> {
    const NONE: &str = "0000000000000000";
    let user = USER.to_string();
    let ids = [("Uid", user.as_str()), ("Gid", user.as_str())];
    let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| (set, NONE));
    let switches = [("NoNewPrivs", "1"), ("Seccomp", "2")];
    for (field, wanted) in ids.into_iter().chain(sets).chain(switches) {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let found = line.unwrap_or("absent").trim();
        if found.split_whitespace().any(|value| value != wanted) {
            return Err(Loose::Status { field, found: found.to_owned(), wanted: wanted.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFINED: &str = "Name:\treverie-vector\nUid:\t65532\t65532\t65532\t65532\nGid:\t65532\t65532\t65532\t65532\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_confined_process_passes() {
        check_status(CONFINED).unwrap();
    }

    #[test]
    fn each_freedom_is_named() {
        for (line, freer, field) in [
            ("Uid:\t65532\t65532", "Uid:\t65532\t0", "Uid"),
            ("Gid:\t65532", "Gid:\t0", "Gid"),
            ("CapEff:\t0000000000000000", "CapEff:\t00000000a80425fb", "CapEff"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb", "CapBnd"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "NoNewPrivs"),
            ("Seccomp:\t2", "Seccomp:\t0", "Seccomp"),
            ("Seccomp:\t2\n", "", "Seccomp"),
        ] {
            let error = check_status(&CONFINED.replace(line, freer)).unwrap_err();
            assert!(
                matches!(&error, Loose::Status { field: found, .. } if *found == field),
                "{freer}: {error}"
            );
        }
    }

    #[test]
    fn this_process_is_not_confined() {
        assert!(check(std::process::id(), &[]).is_err());
    }
}
