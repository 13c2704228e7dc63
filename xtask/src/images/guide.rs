//! Follows docs/guides/compose.md: its shell blocks run in order, in one shell that stops at the first failure.
//!
//! A block whose fence says `not-run` after `sh` is left out; the text before it must say why.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::images::docker::Docker;
use crate::images::{IMAGES, fresh};
use crate::workspace::Workspace;
use crate::{Outcome, process};

const GUIDE: &str = "docs/guides/compose.md";
/// Begins a block that is run.
const FENCE: &str = "```sh";

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
    let script = commands(&fs::read_to_string(workspace.root().join(GUIDE))?);
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

/// The blocks of a guide that are run, one after another.
fn commands(guide: &str) -> String {
    let mut script = String::new();
    let mut runs = false;
    for line in guide.lines() {
        if line.trim_start().starts_with("```") {
            runs = !runs && line.trim() == FENCE;
        } else if runs {
            script.push_str(line);
            script.push('\n');
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_the_shell_are_run_in_order() {
        let guide = "First:\n```sh\nmake this\nand that\n```\nThen\n```text\nnot this\n```\n```sh not-run\nnor this\n```\n```sh\nlast\n```\n";
        assert_eq!(commands(guide), "make this\nand that\nlast\n");
    }
}
