//! The image of pods' sandboxes: one static program that waits to be ended, packed as `docker save` would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::layout::PAUSE_IMAGE;
use crate::{checksum, process};

/// It never reads anything, so it is ended by SIGKILL as sandboxes are.
const SOURCE: &str = "fn main() { loop { std::thread::park() } }\n";

/// The archive in `folder`, made if it is not there.
pub(super) fn archive(folder: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let archive = folder.join("pause.tar");
    if archive.is_file() {
        return Ok(archive);
    }
    let work = tempfile::tempdir_in(folder)?;
    let within = work.path();
    fs::write(within.join("pause.rs"), SOURCE)?;
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let mut compile = Command::new(rustc);
    compile.args([
        "-O",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "panic=abort",
        "-C",
        "strip=symbols",
        "pause.rs",
    ]);
    process::capture(compile.current_dir(within))?;
    let tar = |archive: &Path, files: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(["--owner=0", "--group=0", "--mtime=@0", "-cf"]).arg(archive).args(files);
        process::capture(tar.current_dir(within))
    };
    tar(Path::new("layer.tar"), &["pause"])?;
    let layer = checksum::sha256_of(&within.join("layer.tar"))?;
    let config = serde_json::json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    });
    fs::write(within.join("config.json"), config.to_string())?;
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(within.join("manifest.json"), manifest.to_string())?;
    tar(&within.join("image.tar"), &["manifest.json", "config.json", "layer.tar"])?;
    fs::rename(within.join("image.tar"), &archive)?;
    Ok(archive)
}

/// This machine's processor as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
