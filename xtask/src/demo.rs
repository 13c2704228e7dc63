//! From a clone to a picture: the runtime library, a release build, one prompt.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::onnxruntime::{self, ORT_DYLIB_PATH};
use crate::workspace::Workspace;
use crate::{Outcome, cargo_build, process};

/// Where the picture goes when no flag says so: the folder the command was called from.
const DEFAULT_PICTURE: &str = "picture.png";

/// Draws `prompt`; `flags` pass through to `reverie generate`.
pub(crate) fn run(workspace: &Workspace, prompt: &str, flags: &[String]) -> Outcome {
    let library = onnxruntime::ensure()?;
    let reverie = cargo_build::of(cargo_build::REVERIE, cargo_build::Profile::Release, workspace)?;
    // In the caller's own folder, so that the paths among the flags mean what they say.
    let mut generate = Command::new(reverie);
    generate.arg("generate").arg(prompt).env(ORT_DYLIB_PATH, library);
    let picture = out_of(flags).map_or_else(|| PathBuf::from(DEFAULT_PICTURE), PathBuf::from);
    if out_of(flags).is_none() {
        generate.args(["--out", DEFAULT_PICTURE]);
    }
    process::run(generate.args(flags))?;
    // Standard output may be JSON for a script; this is for the person.
    eprintln!("The picture: {}", std::path::absolute(&picture).unwrap_or(picture).display());
    Ok(())
}

/// The value of `--out`, where the flags give one.
fn out_of(flags: &[String]) -> Option<&Path> {
    flags.iter().enumerate().find_map(|(index, flag)| {
        let value = match flag.strip_prefix("--out") {
            Some("") => flags.get(index + 1).map_or("", String::as_str),
            Some(rest) => rest.strip_prefix('=')?,
            None => return None,
        };
        Some(Path::new(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(flags: &[&str]) -> Option<String> {
        let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
        out_of(&flags).map(|path| path.display().to_string())
    }

    #[test]
    fn out_is_found_in_both_spellings() {
        assert_eq!(out(&["--seed", "7", "--out", "a.png"]).as_deref(), Some("a.png"));
        assert_eq!(out(&["--out=b.png", "--json"]).as_deref(), Some("b.png"));
    }

    #[test]
    fn flags_that_only_look_like_out_are_not_it() {
        assert_eq!(out(&["--outline", "--seed", "7", "out"]), None);
    }

    #[test]
    fn out_without_a_value_is_left_for_reverie_to_refuse() {
        assert_eq!(out(&["--out"]).as_deref(), Some(""));
    }
}
