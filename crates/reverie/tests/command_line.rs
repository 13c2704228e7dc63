//! The `reverie` program as a user meets it.

use std::error::Error;
use std::process::Command;

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/bestiary");

/// The mesh of a command that fails is drained before the process ends: no forward pass fails after the last word.
#[test]
fn the_last_word_of_a_command_that_fails_is_why() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("picture.png");
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
    command.args(["generate", "a small zunin on the left, snow", "--bundle", BUNDLE, "--out"]).arg(&out);
    let ended = command.args(["--size", "64", "--steps", "1000", "--timeout", "1"]).output()?;
    let told = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{told}");
    let last = told.lines().last().unwrap_or_default();
    assert!(last.starts_with("reverie: the deadline passed"), "{told}");
    assert!(!told.contains("ERROR"), "{told}");
    assert!(!out.exists());
    Ok(())
}
