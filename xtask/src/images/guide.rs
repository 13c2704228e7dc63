//! Follows docs/guides/compose.md: its shell blocks run in order, in one shell that stops at the first failure.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::images::docker::Docker;
use crate::images::{IMAGES, fresh};
use crate::workspace::Workspace;
use crate::{Outcome, guides, process};

const GUIDE: &str = "docs/guides/compose.md";

/// Runs the guide's commands with the images of `archives`.
pub(super) fn follow(workspace: &Workspace, archives: &Path) -> Outcome {
    let folder = workspace.root().join("target/images");
    let docker = match Docker::find(&folder)? {
        Ok(docker) => docker,
        Err(missing) => {
            eprintln!("{GUIDE} is not followed here: {missing}");
            return Ok(());
        }
    };
    for target in IMAGES {
        process::capture(
            docker.command().args(["load", "--quiet", "--input"]).arg(archives.join(format!("{target}.tar"))),
        )?;
    }
    let script = guides::commands(&fs::read_to_string(workspace.root().join(GUIDE))?);
    // Pictures and the like are written to a folder of its own; what the guide reads of the repository is linked there.
    let scratch = folder.join("guide");
    fresh(&scratch)?;
    for entry in ["docker", "charts", "docs", "integration-tests"] {
        std::os::unix::fs::symlink(workspace.root().join(entry), scratch.join(entry))?;
    }
    let followed = process::run(
        workspace
            .command("sh")
            .args(["-eux", "-c", &script])
            .current_dir(&scratch)
            // A project and a port of its own, beside a mesh that may run here.
            .env("COMPOSE_PROJECT_NAME", "reverie-guide")
            .env("REVERIE_PORT", free_port()?.to_string())
            .envs(docker.environment()),
    );
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
    fs::remove_dir_all(&scratch)?;
    Ok(())
}

/// A port of the loopback that nothing listens on now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
