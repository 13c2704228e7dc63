//! Container images: built twice with equal digests, listed in bills of materials, started, asked for an image, and looked at from
//! outside.
//!
//! 1. The base: `--base`, or one made of Debian packages ([`base`]).
//! 2. The programs: packed as compiled here, or compiled within an image (`--from-source`) ([`programs`]).
//! 3. The images of docker/Dockerfile, twice ([`builder`]), and what is inside ([`bill`]).
//! 4. A mesh of containers draws an image; each is checked and ended ([`mesh`], [`confinement`]).
//! 5. The guide to Compose is followed word for word, where Docker runs or can be started ([`guide`]).

mod base;
mod bill;
mod builder;
mod confinement;
mod docker;
mod guide;
mod mesh;
mod programs;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo_build::Profile;
use crate::workspace::Workspace;
use crate::{Outcome, cache_folder, process};
use builder::Builder;
pub(crate) use tools::missing;

/// The images, by their targets in docker/Dockerfile; `localhost/reverie/TARGET:dev` are their names.
pub(crate) const IMAGES: [&str; 9] = [
    "pipeline",
    "encoder",
    "retrieval",
    "vector",
    "denoiser",
    "super-resolution",
    "autoencoder",
    "reverie",
    "bestiary",
];

/// How images are built.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// The image that programs run on (default: one made of Debian packages by mmdebstrap)
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// Compile in this image, which has Rust, a C++ compiler, pip and busybox, instead of packing programs compiled here
    #[arg(long, value_name = "IMAGE")]
    from_source: Option<String>,
    /// Pack programs compiled in release (default: those that tests run, which are larger and slower)
    #[arg(long, conflicts_with = "from_source")]
    release: bool,
    /// Do not follow docs/guides/compose.md, which needs Docker
    #[arg(long)]
    without_compose: bool,
    /// Further flags, passed to `buildah build` as they are
    #[arg(last = true, value_name = "FLAGS")]
    build_flags: Vec<String>,
}

/// The full name of an image.
pub(crate) fn name_of(target: &str) -> String {
    format!("localhost/reverie/{target}:dev")
}

/// Builds and checks all images, and saves them for other tests.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Outcome {
    tools::lint(workspace)?;
    if let Some(missing) = missing() {
        return Err(missing.into());
    }
    let folder = workspace.root().join("target/images");
    fs::create_dir_all(&folder)?;
    let builder = Builder::new(&folder)?;

    // 1. and 2.
    let base = match &arguments.base {
        Some(name) => builder.existing(name)?,
        None => base::build(workspace, &builder, &folder)?,
    };
    let profile = if arguments.release { Profile::Release } else { Profile::Dev };
    let context = match &arguments.from_source {
        Some(_) => workspace.root().to_path_buf(),
        None => programs::pack(workspace, &folder, profile)?,
    };

    // 3.
    let recipe = builder::Recipe {
        dockerfile: workspace.root().join("docker/Dockerfile"),
        context,
        runtime_base: base,
        build_base: arguments.from_source.clone(),
        revision: revision(workspace),
        flags: arguments.build_flags.clone(),
    };
    let mut ids = Vec::new();
    for target in IMAGES {
        ids.push((target, builder.build(&recipe, target)?));
    }
    if arguments.from_source.is_none() {
        for (target, id) in &ids {
            let again = builder.build(&recipe, target)?;
            if again != *id {
                return Err(format!("{target}: the same input gave {id}, then {again}").into());
            }
        }
        eprintln!("Built twice: the same {} digests", ids.len());
    }
    bill::write(workspace, &builder, &folder.join("sbom"))?;
    let archives = save(&builder)?;

    // 4. and 5.
    mesh::check(&builder)?;
    if arguments.without_compose {
        return Ok(());
    }
    guide::follow(workspace, &archives)
}

/// What CI does: as much as the machine has programs for.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    if let Some(missing) = missing() {
        tools::lint(workspace)?;
        eprintln!("Images are not built here: {missing}");
        return Ok(());
    }
    run(workspace, &Arguments::default())
}

/// Archives that `docker load`, `podman load` and `ctr images import` read, in the cache folder.
fn save(builder: &Builder) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let folder = cache_folder::locate()?.join("images");
    fs::create_dir_all(&folder)?;
    println!("{:<18} {:>8}  digest", "image", "MB");
    for target in IMAGES {
        let image = builder.save(target, &folder)?;
        println!("{target:<18} {:>8.1}  {}", image.bytes as f64 / 1e6, image.id);
    }
    Ok(folder)
}

/// The commit, for the label of images; "unknown" where there is none, or where files differ from it.
fn revision(workspace: &Workspace) -> String {
    let git = |arguments: &[&str]| {
        let output = process::capture(workspace.command("git").args(arguments)).ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => git(&["rev-parse", "HEAD"]),
        _ => None,
    }
    .unwrap_or_else(|| "unknown".to_owned())
}

/// Empties a folder, or makes it.
fn fresh(folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_has_an_image() {
        let workspace = Workspace::locate();
        let dockerfile = fs::read_to_string(workspace.root().join("docker/Dockerfile")).unwrap();
        for image in IMAGES {
            assert!(
                dockerfile.contains(&format!(" AS {image}\n")),
                "docker/Dockerfile has no target {image}"
            );
        }
        for entry in fs::read_dir(workspace.root().join("services")).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                let service = entry.file_name().into_string().unwrap();
                assert!(IMAGES.contains(&service.as_str()), "{service} has no image");
            }
        }
    }
}
