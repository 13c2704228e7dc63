//! Running other programs, with errors that say which program, and what it answered.

use std::env;
use std::io;
use std::iter;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};

use thiserror::Error;

/// How running a program went wrong.
#[derive(Debug, Error)]
pub(crate) enum ProcessError {
    /// The program is not installed, or not on `PATH`.
    #[error("the program `{program}` was not found")]
    NotFound { program: String },
    /// The operating system refused to start it.
    #[error("cannot start `{program}`")]
    Start { program: String, source: io::Error },
    /// It ran and ended with anything but success. `stderr` is empty where the program wrote to the terminal itself.
    #[error("`{line}` failed ({status}){}", after_colon(stderr))]
    Failed { line: String, status: ExitStatus, stderr: String },
}

/// Runs a program on this terminal until it ends.
pub(crate) fn run(command: &mut Command) -> Result<(), ProcessError> {
    let status = command.status().map_err(|error| start_error(command, error))?;
    if status.success() {
        Ok(())
    } else {
        Err(ProcessError::Failed { line: line_of(command), status, stderr: String::new() })
    }
}

/// Runs a program until it ends and keeps what it printed; a stream already redirected by the caller stays so.
pub(crate) fn capture(command: &mut Command) -> Result<Output, ProcessError> {
    let output = command.output().map_err(|error| start_error(command, error))?;
    if output.status.success() {
        Ok(output)
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ProcessError::Failed { line: line_of(command), status: output.status, stderr })
    }
}

/// Whether a program runs and ends with success; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    capture(command).is_ok()
}

/// A program by its path, or by its name on `PATH` and where system programs lie.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn start_error(command: &Command, source: io::Error) -> ProcessError {
    let program = command.get_program().to_string_lossy().into_owned();
    if source.kind() == io::ErrorKind::NotFound {
        ProcessError::NotFound { program }
    } else {
        ProcessError::Start { program, source }
    }
}

/// The command as one would type it, for messages only.
fn line_of(command: &Command) -> String {
    let words = iter::once(command.get_program()).chain(command.get_args()).map(|word| {
        let word = word.to_string_lossy();
        if word.is_empty() || word.contains(char::is_whitespace) {
            format!("{word:?}")
        } else {
            word.into_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(":\n{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_quotes_what_a_shell_would_split() {
        let mut command = Command::new("reverie");
        command.args(["generate", "a small dribago", "--out", "picture.png"]);
        assert_eq!(line_of(&command), r#"reverie generate "a small dribago" --out picture.png"#);
    }

    #[test]
    fn an_absent_program_is_named() {
        let error = run(&mut Command::new("reverie-no-such-program")).unwrap_err();
        assert!(matches!(&error, ProcessError::NotFound { program } if program == "reverie-no-such-program"));
    }

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = capture(Command::new("sh").args(["-c", "echo no luck >&2; exit 3"])).unwrap_err();
        let ProcessError::Failed { status, stderr, .. } = &error else { panic!("{error}") };
        assert_eq!((status.code(), stderr.as_str()), (Some(3), "no luck"));
        assert!(error.to_string().ends_with(":\nno luck"), "{error}");
    }

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        assert!(find("sh").is_some());
        assert!(find("/bin/sh").is_some());
        assert_eq!(find("reverie-no-such-program"), None);
    }
}
