//! The chart rendered with the values of each case, compared with what is committed; and values that it must refuse.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use thiserror::Error as ThisError;

use super::folder;
use super::programs::Programs;
use crate::Outcome;
use crate::process::{self, ProcessError};
use crate::workspace::Workspace;

/// What is wrong with a render.
#[derive(Debug, ThisError)]
enum RenderError {
    /// The chart renders otherwise than committed.
    #[error(
        "{} is not what the chart renders now:\n{difference}\nif the change is meant, `cargo xtask chart --update` writes it anew",
        golden.display()
    )]
    Differs { golden: PathBuf, difference: String },
    /// A committed render that no case makes.
    #[error("{} belongs to no case: remove it", .0.display())]
    Orphan(PathBuf),
    /// Values were taken that should be refused.
    #[error("the chart takes {}, which it should refuse with: {expected}", case.display())]
    Taken { case: PathBuf, expected: String },
    /// Values were refused for another reason.
    #[error("the chart refuses {} with\n{said}\ninstead of: {expected}", case.display())]
    OtherReason { case: PathBuf, expected: String, said: String },
    #[error("{} must begin with `# refused: ` and a part of the error", .0.display())]
    NoReason(PathBuf),
}

/// Renders each case and compares it, or writes it anew. Returns the files of the renders.
pub(super) fn check(
    workspace: &Workspace,
    programs: &Programs,
    update: bool,
) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let folder = folder(workspace);
    let cases = yaml_files(&folder.join("tests/cases"))?;
    let golden_folder = folder.join("tests/golden");
    let mut renders = Vec::new();
    for case in &cases {
        let golden = golden_folder.join(case.file_name().unwrap_or_default());
        let render = template(programs, &folder, case)?;
        if update {
            fs::create_dir_all(&golden_folder)?;
            fs::write(&golden, &render)?;
        } else if fs::read_to_string(&golden).unwrap_or_default() != render {
            return Err(differs(golden, &render)?.into());
        }
        renders.push(golden);
    }
    match yaml_files(&golden_folder)?.into_iter().find(|golden| !renders.contains(golden)) {
        Some(orphan) => Err(RenderError::Orphan(orphan).into()),
        None => Ok(renders),
    }
}

/// Tries the values that the schema or a template must refuse, each for the reason in its first line.
pub(super) fn check_refusals(workspace: &Workspace, programs: &Programs) -> Outcome {
    let folder = folder(workspace);
    for case in yaml_files(&folder.join("tests/refused"))? {
        let text = fs::read_to_string(&case)?;
        let first = text.lines().next().unwrap_or_default();
        let Some(expected) = first.strip_prefix("# refused: ").map(str::to_owned) else {
            return Err(RenderError::NoReason(case).into());
        };
        match template(programs, &folder, &case) {
            Ok(_) => return Err(RenderError::Taken { case, expected }.into()),
            Err(ProcessError::Failed { stderr: said, .. }) if said.contains(&expected) => {}
            Err(ProcessError::Failed { stderr: said, .. }) => {
                return Err(RenderError::OtherReason { case, expected, said }.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn template(programs: &Programs, chart: &Path, values: &Path) -> Result<String, ProcessError> {
    let mut helm = programs.helm();
    helm.args(["template", "reverie"]).arg(chart).args(["--namespace", "images", "--values"]).arg(values);
    Ok(String::from_utf8_lossy(&process::capture(&mut helm)?.stdout).into_owned())
}

/// The lines that differ, as `diff` shows them.
fn differs(golden: PathBuf, render: &str) -> io::Result<RenderError> {
    let new = tempfile::NamedTempFile::new()?;
    fs::write(new.path(), render)?;
    let diff = Command::new("diff").arg("-uN").arg(&golden).arg(new.path()).output()?;
    let shown: Vec<_> = String::from_utf8_lossy(&diff.stdout).lines().take(60).map(str::to_owned).collect();
    Ok(RenderError::Differs { golden, difference: shown.join("\n") })
}

fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}
