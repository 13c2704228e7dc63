//! The contracts in protos/, linted, built and compared with the last release by buf, which comes from the npm registry.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::process::{self, ProcessError};
use crate::workspace::Workspace;

/// The pinned buf, as npx names it.
const BUF: &str = "@bufbuild/buf@1.75.0";

/// `buf lint`, `buf build` and `buf breaking`, with the rules of protos/buf.yaml.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    buf(workspace, &["lint"])?;
    buf(workspace, &["build"])?;
    let Some(tag) = last_release(workspace) else {
        eprintln!("There is no release tag (v*) here: contracts are not compared with the last release");
        return Ok(());
    };
    buf(workspace, &["breaking", "--against", &against(workspace, &tag)?])
}

/// The code that `buf.gen.yaml` of a folder asks for.
pub(crate) fn generate(workspace: &Workspace, folder: &Path) -> Outcome {
    buf_in(workspace, folder, &["generate"])
}

fn buf(workspace: &Workspace, arguments: &[&str]) -> Outcome {
    buf_in(workspace, &workspace.root().join("protos"), arguments)
}

fn buf_in(workspace: &Workspace, folder: &Path, arguments: &[&str]) -> Outcome {
    let mut buf = workspace.command("npx");
    buf.args(["--yes", BUF]).args(arguments).current_dir(folder);
    process::run(&mut buf).map_err(|error| match error {
        ProcessError::NotFound { .. } => "buf runs through npx: install Node.js 18 or later with npm".into(),
        other => Box::<dyn std::error::Error>::from(other),
    })
}

/// The newest tag before this commit that names a release, if git knows one.
fn last_release(workspace: &Workspace) -> Option<String> {
    git(workspace, &["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"])
}

/// The contracts of `tag`, as buf names them.
fn against(workspace: &Workspace, tag: &str) -> Result<String, Box<dyn std::error::Error>> {
    let folder = git(workspace, &["rev-parse", "--path-format=absolute", "--git-common-dir"]);
    Ok(format!("{}#tag={tag},subdir=protos", folder.ok_or("git does not say where its folder is")?))
}

fn git(workspace: &Workspace, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    let output = process::capture(git.args(arguments).current_dir(workspace.root())).ok()?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!line.is_empty()).then_some(line)
}
