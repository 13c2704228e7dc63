//! Cargo tools of a pinned version, built once into the cache folder, so that no one's own tools are replaced.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::Workspace;
use crate::{cache_folder, process};

/// A tool that crates.io has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CargoTool {
    /// The package, and the executable of the same name.
    pub(crate) name: &'static str,
    /// The newest that builds with this workspace's `rust-version`.
    pub(crate) version: &'static str,
}

impl CargoTool {
    /// The installed one if it has the pinned version, otherwise one of our own.
    pub(crate) fn ensure(self, workspace: &Workspace) -> Result<PathBuf, Box<dyn std::error::Error>> {
        let Self { name, version } = self;
        let installed = PathBuf::from(name);
        if self.is_pinned(&installed) {
            return Ok(installed);
        }
        let root = cache_folder::locate()?.join(format!("{name}-{version}"));
        let own = root.join("bin").join(name);
        if !self.is_pinned(&own) {
            eprintln!("Building {name} {version} into {}: a few minutes, once", root.display());
            process::run(
                workspace
                    .cargo("install")
                    .args(["--locked", "--version", version, "--root"])
                    .arg(&root)
                    .arg(name),
            )?;
        }
        Ok(own)
    }

    fn is_pinned(self, program: &Path) -> bool {
        // Tools that are told of cargo expect the name of their subcommand first.
        process::capture(Command::new(program).arg("--version").env_remove("CARGO"))
            .is_ok_and(|output| self.printed_by_pinned(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Some print their name before the version, some do not.
    fn printed_by_pinned(self, printed: &str) -> bool {
        let printed = printed.trim();
        printed.strip_prefix(self.name).unwrap_or(printed).trim() == self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_version_counts() {
        let tool = CargoTool { name: "cargo-deny", version: "0.20.2" };
        assert!(tool.printed_by_pinned("cargo-deny 0.20.2\n"));
        assert!(tool.printed_by_pinned("0.20.2\n"));
        assert!(!tool.printed_by_pinned("cargo-deny 0.20.20\n"));
        assert!(!tool.printed_by_pinned("cargo-deny 0.19.0\n"));
        assert!(!tool.printed_by_pinned(""));
    }
}
