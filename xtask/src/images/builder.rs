//! buildah and podman with a storage of their own, so that nobody's images are touched and nothing is left behind.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::images::name_of;
use crate::process;

/// What images are made of.
pub(super) struct Recipe {
    pub(super) dockerfile: PathBuf,
    pub(super) context: PathBuf,
    pub(super) runtime_base: String,
    /// The image that compiles; programs come packed in the context where there is none.
    pub(super) build_base: Option<String>,
    pub(super) revision: String,
    pub(super) flags: Vec<String>,
}

/// A saved image.
pub(super) struct Saved {
    pub(super) id: String,
    /// Of all its files; layers that images share count in each.
    pub(super) bytes: u64,
}

/// buildah and podman.
#[derive(Debug)]
pub(super) struct Builder {
    storage: PathBuf,
    configuration: PathBuf,
}

impl Builder {
    /// An empty storage below `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let storage = folder.join("storage");
        let configuration = folder.join("storage.conf");
        let text = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
            storage.join("run").display(),
            storage.join("graph").display()
        );
        fs::write(&configuration, text)?;
        let builder = Self { storage, configuration };
        builder.clear();
        Ok(builder)
    }

    /// buildah or podman, with this storage.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("CONTAINERS_STORAGE_CONF", &self.configuration);
        command
    }

    /// Runs podman and gives back what it printed.
    pub(super) fn podman(&self, arguments: &[&str]) -> Result<String, process::ProcessError> {
        let output = process::capture(self.command("podman").args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Brings an image of the machine's own storage, or of a registry, into this one.
    pub(super) fn existing(&self, name: &str) -> Result<String, Box<dyn Error>> {
        let archive = self.storage.with_extension("tar");
        let _ = fs::remove_file(&archive);
        if process::succeeds(Command::new("podman").args(["image", "exists", name])) {
            process::run(
                Command::new("podman").args(["save", "--quiet", "--output"]).arg(&archive).arg(name),
            )?;
            process::capture(self.command("podman").args(["load", "--quiet", "--input"]).arg(&archive))?;
            fs::remove_file(&archive)?;
        } else {
            process::run(self.command("podman").args(["pull", "--quiet", name]))?;
        }
        Ok(name.to_owned())
    }

    /// Makes an image that holds the files of a tar archive.
    pub(super) fn import(&self, archive: &Path, name: &str) -> Result<(), Box<dyn Error>> {
        let folder = archive.parent().unwrap_or(Path::new("."));
        let dockerfile = archive.with_extension("Dockerfile");
        let file = archive.file_name().unwrap_or_default().to_string_lossy();
        fs::write(&dockerfile, format!("FROM scratch\nADD {file} /\n"))?;
        process::capture(
            self.command("buildah")
                .args([
                    "build",
                    "--isolation",
                    "chroot",
                    "--timestamp",
                    "0",
                    "--quiet",
                    "--tag",
                    name,
                    "--file",
                ])
                .args([&dockerfile, folder]),
        )?;
        Ok(())
    }

    /// Builds one image anew and gives its digest. Nothing in it depends on the time.
    pub(super) fn build(&self, recipe: &Recipe, target: &str) -> Result<String, Box<dyn Error>> {
        let mut build = self.command("buildah");
        build.args(["build", "--isolation", "chroot", "--timestamp", "0", "--quiet", "--target", target]);
        build.args(["--tag", &name_of(target), "--file"]).arg(&recipe.dockerfile);
        build.args(["--build-arg", &format!("RUNTIME_BASE={}", recipe.runtime_base)]);
        build.args(["--build-arg", &format!("REVISION={}", recipe.revision)]);
        match &recipe.build_base {
            // Compiled once for all images: layers are kept. PROGRAMS is passed although it is the default: buildah 1.28 takes stages
            // that only a default names for unused, and leaves them out.
            Some(base) => build.args([
                "--layers",
                "--build-arg",
                "PROGRAMS=compiled",
                "--build-arg",
                &format!("BUILD_BASE={base}"),
            ]),
            None => build.args([
                "--no-cache",
                "--build-arg",
                "PROGRAMS=packed",
                "--build-arg",
                "BUILD_BASE=scratch",
            ]),
        };
        let output = process::capture(build.args(&recipe.flags).arg(&recipe.context))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let id = printed.lines().last().unwrap_or_default().trim().to_owned();
        if id.len() == 64 {
            Ok(id)
        } else {
            Err(format!("buildah built {target} and gave no digest: {printed}").into())
        }
    }

    /// Writes an image to FOLDER/TARGET.tar.
    pub(super) fn save(&self, target: &str, folder: &Path) -> Result<Saved, Box<dyn Error>> {
        let name = name_of(target);
        let archive = folder.join(format!("{target}.tar"));
        // Beside it and renamed: whoever reads one meanwhile has a whole archive.
        let fresh = folder.join(format!(".{target}.tar"));
        let _ = fs::remove_file(&fresh);
        process::capture(
            self.command("buildah")
                .args(["push", "--quiet", &name])
                .arg(format!("docker-archive:{}:{name}", fresh.display())),
        )?;
        fs::rename(&fresh, &archive)?;
        let id = self.podman(&["image", "inspect", "--format", "{{.Id}}", &name])?;
        let bytes = self.podman(&["image", "inspect", "--format", "{{.Size}}", &name])?.parse()?;
        Ok(Saved { id, bytes })
    }

    /// Removes containers, images and volumes, as far as there are any.
    fn clear(&self) {
        if self.storage.exists() {
            let _ = self.podman(&["rm", "--all", "--force", "--volumes"]);
            let _ = self.podman(&["volume", "rm", "--all", "--force"]);
            let _ = process::capture(self.command("buildah").args(["rm", "--all"]));
            let _ = fs::remove_dir_all(&self.storage);
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.clear();
    }
}
