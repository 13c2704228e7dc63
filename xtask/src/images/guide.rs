//! Follows docs/guides/compose.md on a Docker that has the images.

use std::net::TcpListener;
use std::path::Path;

use crate::images::IMAGES;
use crate::images::docker::Docker;
use crate::workspace::Workspace;
use crate::{Outcome, guides, process};

/// Runs the guide's commands with the images of `archives`.
pub(super) fn follow(workspace: &Workspace, archives: &Path) -> Outcome {
    let folder = workspace.root().join("target/images");
    let docker = match Docker::find(&folder)? {
        Ok(docker) => docker,
        Err(missing) => {
            eprintln!("docs/guides/compose.md is not followed here: {missing}");
            return Ok(());
        }
    };
    for target in IMAGES {
        process::capture(
            docker.command().args(["load", "--quiet", "--input"]).arg(archives.join(format!("{target}.tar"))),
        )?;
    }
    // A project and a port of its own, beside a mesh that may run here.
    let port = free_port()?.to_string();
    let mut shell = workspace.command("bash");
    shell.env("COMPOSE_PROJECT_NAME", "reverie-guide").env("REVERIE_PORT", port).envs(docker.environment());
    let followed = guides::follow(workspace, "compose", shell, &[]);
    let compose = |arguments: &[&str]| {
        let mut command = docker.command();
        command.args(["compose", "--file", "docker/compose.yaml", "--project-name", "reverie-guide"]);
        command.args(arguments).current_dir(workspace.root());
        command
    };
    if followed.is_err() {
        let _ = process::run(&mut compose(&["logs", "--tail", "50"]));
    }
    let down = process::capture(&mut compose(&["down", "--volumes", "--timeout", "30"]));
    followed?;
    down?;
    Ok(())
}

/// A port of the loopback that nothing listens on now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
