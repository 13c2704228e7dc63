//! Where the repository is, and cargo called inside it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository this command was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// `cargo run` names this package's folder in the environment; a binary started by hand remembers where it was built.
    pub(crate) fn locate() -> Self {
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        Self { root: package.parent().map_or_else(|| package.clone(), Path::to_path_buf) }
    }

    /// The repository's root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A program to run in the repository's root, free of what cargo told this process about the package xtask.
    ///
    /// Build scripts (ring's among them) watch `CARGO_PKG_*` and `CARGO_MANIFEST_*`; passing ours on would make cargo
    /// rebuild them, and all that depends on them, each time the same build is asked for with and without xtask.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(describes_this_package) {
                command.env_remove(name);
            }
        }
        command
    }

    /// The cargo that runs this command, to run in the repository's root.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = self.command(&cargo);
        command.arg(subcommand);
        command
    }
}

fn describes_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_this_package() {
        assert!(Workspace::locate().root().join("xtask/Cargo.toml").is_file());
    }

    #[test]
    fn nested_programs_do_not_take_themselves_for_xtask() {
        let command = Workspace::locate().command("cargo");
        let removed: Vec<_> =
            command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.contains(&"CARGO_MANIFEST_DIR".as_ref()), "{removed:?}");
        assert!(removed.contains(&"CARGO_PKG_NAME".as_ref()), "{removed:?}");
    }

    #[test]
    fn settings_of_cargo_itself_are_kept() {
        assert!(!describes_this_package("CARGO_TARGET_DIR"));
        assert!(!describes_this_package("CARGO_HOME"));
    }
}
