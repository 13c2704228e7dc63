//! Bills of materials in `CycloneDX`: the crates of each program as cargo resolves them, ONNX Runtime, and the Debian packages of the
//! base.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::images::builder::Builder;
use crate::images::{IMAGES, name_of};
use crate::wheel;
use crate::workspace::Workspace;
use crate::{Outcome, process};

/// Writes FOLDER/IMAGE.cdx.json for every image.
pub(super) fn write(workspace: &Workspace, builder: &Builder, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    for target in IMAGES {
        let root = mounted(builder, target)?;
        let base = package_lists(&Path::new(&root.path).join("var/lib/dpkg"))?;
        let has_runtime = Path::new(&root.path).join("usr/local/lib/libonnxruntime.so").is_file();
        drop(root);
        let mut components = match target {
            // Models, and busybox as the program that copies them.
            "bestiary" => vec![component("busybox", "1", "generic/busybox", "GPL-2.0-only")],
            "reverie" => crates(workspace, target)?,
            service => crates(workspace, &format!("reverie-{service}"))?,
        };
        components.extend(debian_packages(&base));
        if has_runtime {
            components.push(component("onnxruntime", wheel::VERSION, "pypi/onnxruntime", "MIT"));
        }
        let bill = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": { "type": "container", "name": name_of(target), "version": env!("CARGO_PKG_VERSION") } },
            "components": components,
        });
        fs::write(folder.join(format!("{target}.cdx.json")), serde_json::to_vec_pretty(&bill)?)?;
    }
    eprintln!("Bills of materials: {}", folder.display());
    Ok(())
}

/// The files of an image, while it lives.
struct Mounted<'a> {
    builder: &'a Builder,
    target: &'static str,
    path: String,
}

fn mounted<'a>(builder: &'a Builder, target: &'static str) -> Result<Mounted<'a>, Box<dyn Error>> {
    let path = builder.podman(&["image", "mount", &name_of(target)])?;
    Ok(Mounted { builder, target, path })
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = self.builder.podman(&["image", "unmount", &name_of(self.target)]);
    }
}

/// The crates that are compiled into a program, ours left out.
fn crates(workspace: &Workspace, package: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut tree = workspace.cargo("tree");
    tree.args(["--locked", "--package", package, "--edges", "normal", "--no-dedupe", "--prefix", "none"]);
    let output = process::capture(tree.args(["--format", "{p}\t{l}"]))?;
    let mut lines: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.iter().filter_map(|line| crate_of(line)).collect())
}

/// `name v1.2.3\tlicence`; a path follows the version of our own.
fn crate_of(line: &str) -> Option<Value> {
    let (package, licence) = line.split_once('\t')?;
    let (name, version) = package.split_once(" v")?;
    // "(proc-macro)" may follow.
    let (version, rest) = version.split_once(' ').unwrap_or((version, ""));
    (!rest.contains('/')).then(|| component(name, version, &format!("cargo/{name}"), licence))
}

/// What dpkg keeps in its folder: one list, or, in distroless images, a file for each package. Empty where there is neither.
fn package_lists(folder: &Path) -> std::io::Result<String> {
    let mut lists = fs::read_to_string(folder.join("status")).unwrap_or_default();
    let Ok(files) = fs::read_dir(folder.join("status.d")) else { return Ok(lists) };
    let mut paths = files.map(|file| file.map(|file| file.path())).collect::<Result<Vec<_>, _>>()?;
    // Beside each list lie the checksums of its files.
    paths.retain(|path| path.extension().is_none_or(|extension| extension != "md5sums"));
    paths.sort();
    for path in paths {
        lists.push_str(&fs::read_to_string(path)?);
        lists.push_str("\n\n");
    }
    Ok(lists)
}

/// The packages of such lists, but for busybox, which the base is only built with.
fn debian_packages(status: &str) -> Vec<Value> {
    let packages = status.split("\n\n").filter_map(|paragraph| {
        let field =
            |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (name, version) = (field("Package")?, field("Version")?);
        (name != "busybox-static").then(|| component(name, version, &format!("deb/debian/{name}"), ""))
    });
    packages.collect()
}

fn component(name: &str, version: &str, package: &str, licence: &str) -> Value {
    // Characters that a package URL takes only when escaped.
    let escaped = version.replace('+', "%2B").replace(':', "%3A").replace('~', "%7E");
    let mut component = json!({
        "type": "library",
        "name": name,
        "version": version,
        "purl": format!("pkg:{package}@{escaped}"),
    });
    if !licence.is_empty() {
        // Crates of former days write MIT/Apache-2.0.
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_crates_are_listed_and_ours_are_not() {
        let listed = crate_of("anyhow v1.0.104\tMIT/Apache-2.0").unwrap();
        assert_eq!(listed["purl"], "pkg:cargo/anyhow@1.0.104");
        assert_eq!(listed["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let macros = crate_of("serde_derive v1.0.228 (proc-macro)\tMIT OR Apache-2.0").unwrap();
        assert_eq!(macros["version"], "1.0.228");
        assert_eq!(crate_of("reverie-proto v0.1.0 (/a/crates/proto)\tApache-2.0"), None);
    }

    #[test]
    fn distroless_images_have_a_file_for_each_package() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(package_lists(folder.path()).unwrap(), "");
        let files = folder.path().join("status.d");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("tzdata"), "Package: tzdata\nVersion: 2026a\n").unwrap();
        fs::write(files.join("libc6"), "Package: libc6\nVersion: 2.36").unwrap();
        fs::write(files.join("libc6.md5sums"), "00  usr/lib/libc.so.6").unwrap();
        let found = debian_packages(&package_lists(folder.path()).unwrap());
        let names: Vec<_> = found.iter().map(|package| package["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["libc6", "tzdata"]);
    }

    #[test]
    fn debian_packages_are_read_from_dpkg_s_list() {
        let status = "Package: libc6\nSource: glibc\nVersion: 2.36-9+deb12u14\nStatus: install ok installed\n\n\
            Package: tzdata\nVersion: 2026a-0+deb12u1\n\n";
        let found = debian_packages(status);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["purl"], "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14");
    }
}
