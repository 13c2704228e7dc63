//! A base for programs without a registry: the C and C++ libraries, CA certificates and time zones of Debian 12, and nothing that
//! could be started. It takes the place of the distroless image that docker/Dockerfile names.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::images::builder::Builder;
use crate::images::{fresh, programs};
use crate::process;
use crate::workspace::Workspace;

/// What is inside; busybox is only taken out of it, as the program that copies models.
const PACKAGES: &str = "base-files,busybox-static,ca-certificates,libc6,libgcc-s1,libstdc++6,netbase,tzdata";
/// The release that the public base has, too.
const RELEASE: &str = "bookworm";

/// Builds it and gives its name.
pub(super) fn build(
    workspace: &Workspace,
    builder: &Builder,
    folder: &Path,
) -> Result<String, Box<dyn Error>> {
    let name = "localhost/reverie/base:dev";
    let scripts = workspace.root().join("docker/base");
    let root = folder.join("base");
    fresh(&root)?;
    fs::remove_dir(&root)?;
    process::run(
        Command::new("mmdebstrap")
            .args(["--quiet", "--mode=root", "--format=directory", "--variant=extract"])
            .arg(format!("--include={PACKAGES}"))
            .arg(format!("--extract-hook={} \"$1\"", scripts.join("record-packages.sh").display()))
            .arg(RELEASE)
            .arg(&root)
            .env("SOURCE_DATE_EPOCH", "0"),
    )?;
    fs::copy(root.join("bin/busybox"), folder.join(programs::COPIER))?;
    process::run(Command::new(scripts.join("customize.sh")).arg(&root))?;

    // Owners, modes and order are settled, so equal packages make equal archives.
    let archive = folder.join("base.tar");
    process::run(
        Command::new("tar")
            .args(["--sort=name", "--mtime=@0", "--numeric-owner", "--create", "--file"])
            .arg(&archive)
            .arg("--directory")
            .args([&root, Path::new(".")]),
    )?;
    builder.import(&archive, name)?;
    fs::remove_dir_all(&root)?;
    fs::remove_file(&archive)?;
    Ok(name.to_owned())
}
