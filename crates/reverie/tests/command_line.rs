//! The `reverie` program as a user meets it.

use std::error::Error;
use std::process::Command;

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/bestiary");

/// The mesh of a command that fails is drained before the process ends, so that nothing is said but why.
#[test]
fn a_picture_that_takes_too_long_is_told_in_one_line() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("picture.png");
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
    command.args(["generate", "a small zunin on the left, snow", "--bundle", BUNDLE, "--out"]).arg(&out);
    let ended = command.args(["--size", "64", "--steps", "1000", "--timeout", "1"]).output()?;
    let told = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("reverie: ") && told.contains("waiting for the picture"), "{told}");
    assert!(!out.exists());
    Ok(())
}
