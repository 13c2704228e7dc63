//! The workspace's dependencies point one way, and each version is written once.
//!
//! Four floors: benchmarks and tests > the command > services > crates. A package depends on packages of the floors below
//! and, within `crates/`, on its neighbours. Services never depend on each other: they meet on the wire only. The diffusion
//! mathematics depends on nothing of ours.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The package that is mathematics alone.
const DIFFUSION: &str = "reverie-diffusion";

/// The part of the tree that a member lives in, from the ground up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Floor {
    Crates,
    Services,
    /// The command `reverie`, which runs all services in one process.
    Command,
    BenchAndTests,
    /// Built before everything else: stands beside the house.
    Xtask,
}

/// A member of the workspace and the members it depends on: for running, for building or for its tests.
#[derive(Debug)]
struct Member {
    name: String,
    floor: Floor,
    ours: BTreeSet<String>,
}

#[test]
fn dependencies_point_one_way() -> Fallible<()> {
    let members = members(&metadata()?)?;
    let services = members.iter().filter(|member| member.floor == Floor::Services).count();
    assert_eq!(services, 7, "the floors are not recognised: {members:?}");
    let wrong = wrong_ways(&members);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_wrong_way_is_noticed() {
    let member = |name: &str, floor, ours: &[&str]| Member {
        name: name.to_owned(),
        floor,
        ours: ours.iter().map(ToString::to_string).collect(),
    };
    let members = [
        member("reverie-bench", Floor::BenchAndTests, &["reverie", "reverie-vector", "reverie-proto"]),
        member("reverie-integration-tests", Floor::BenchAndTests, &["reverie", "reverie-bench"]),
        member("reverie", Floor::Command, &["reverie-pipeline", "reverie-vector", "reverie-bench"]),
        member("reverie-pipeline", Floor::Services, &["reverie-proto", "reverie-vector"]),
        member("reverie-vector", Floor::Services, &["reverie"]),
        member("reverie-proto", Floor::Crates, &["reverie-vector"]),
        member("reverie-imaging", Floor::Crates, &["reverie-proto", "reverie"]),
        member(DIFFUSION, Floor::Crates, &["reverie-proto"]),
        member("xtask", Floor::Xtask, &["reverie-proto"]),
    ];
    let wrong = wrong_ways(&members);
    let expected = [
        "reverie-integration-tests depends on reverie-bench",
        "reverie depends on reverie-bench",
        "reverie-pipeline depends on reverie-vector",
        "reverie-vector depends on reverie",
        "reverie-proto depends on reverie-vector",
        "reverie-imaging depends on reverie",
        "reverie-diffusion depends on reverie-proto",
        "xtask depends on reverie-proto",
    ];
    assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
    for (line, start) in wrong.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
}

/// Contracts of what callers reach through the public door; whoever has them needs none of the mesh's inner ones.
const PUBLIC: [&str; 3] = ["generation", "knowledge", "retrieval"];
/// What contracts share: no services.
const VOCABULARY: [&str; 2] = ["diffusion", "tensor"];

#[test]
fn public_contracts_import_no_inner_ones() -> Fallible<()> {
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/../protos/reverie");
    let mut imports = 0;
    for package in PUBLIC.into_iter().chain(VOCABULARY) {
        let mut allowed = VOCABULARY.to_vec();
        if PUBLIC.contains(&package) {
            allowed.extend(PUBLIC);
        }
        for file in fs::read_dir(Path::new(protos).join(package).join("v1"))? {
            let file = file?.path();
            let text = fs::read_to_string(&file)?;
            let imported = text.lines().filter_map(|line| line.strip_prefix("import \"reverie/"));
            for imported in imported {
                imports += 1;
                let of = imported.split('/').next().unwrap_or_default();
                assert!(allowed.contains(&of), "{} imports reverie/{imported}", file.display());
            }
        }
    }
    assert!(imports > 10, "imports are not recognised: {imports}");
    Ok(())
}

/// The whole tree below it, not its own manifest alone: a runtime would come in by the back door otherwise.
#[test]
fn the_diffusion_mathematics_stands_alone() -> Fallible<()> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            DIFFUSION,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--locked", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()?;
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let listed = String::from_utf8(tree.stdout)?;
    let below: BTreeSet<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(below.contains(DIFFUSION), "{below:?}");
    for package in below {
        let foreign = package.starts_with("tokio") || package.starts_with("tonic") || package == "ort";
        let ours = package.starts_with("reverie") && package != DIFFUSION;
        assert!(!foreign && !ours, "{DIFFUSION} depends on {package}");
    }
    Ok(())
}

#[test]
fn every_version_stands_in_the_workspace_table() -> Fallible<()> {
    let metadata = metadata()?;
    for package in metadata.workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path)?.parse::<toml::Table>()?;
        let astray = outside_the_table(&manifest);
        assert!(astray.is_empty(), "{} must say `workspace = true` of {astray:?}", package.manifest_path);
    }
    Ok(())
}

#[test]
fn a_version_in_a_member_is_noticed() -> Fallible<()> {
    let manifest = r#"
        [dependencies]
        tonic.workspace = true
        tokio = { workspace = true, features = ["test-util"] }
        one = "1"
        [dev-dependencies]
        two = { path = "../two" }
        [build-dependencies]
        three = { version = "3", workspace = false }
        [target.'cfg(unix)'.dependencies]
        four = "4"
    "#;
    assert_eq!(outside_the_table(&manifest.parse()?), ["one", "two", "three", "four"]);
    Ok(())
}

/// This workspace's members and their manifests; nothing is resolved or downloaded.
fn metadata() -> Fallible<Metadata> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    Ok(MetadataCommand::new().manifest_path(manifest).no_deps().exec()?)
}

fn members(metadata: &Metadata) -> Fallible<Vec<Member>> {
    let packages = metadata.workspace_packages();
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    packages
        .iter()
        .map(|package| {
            let place = package.manifest_path.strip_prefix(&metadata.workspace_root)?;
            let floor = match place.components().next().map(|first| first.as_str()) {
                Some("crates") => Floor::Crates,
                Some("services") => Floor::Services,
                Some("cli") => Floor::Command,
                Some("bench" | "integration-tests") => Floor::BenchAndTests,
                Some("xtask") => Floor::Xtask,
                _ => return Err(format!("{place} is on no known floor").into()),
            };
            let ours = package.dependencies.iter().map(|dependency| dependency.name.clone());
            let ours = ours.filter(|name| names.contains(name.as_str())).collect();
            Ok(Member { name: package.name.to_string(), floor, ours })
        })
        .collect()
}

/// Every dependency between members that the architecture does not allow, one line each.
fn wrong_ways(members: &[Member]) -> Vec<String> {
    let floor_of = |name: &str| members.iter().find(|member| member.name == name).map(|member| member.floor);
    let mut wrong = Vec::new();
    for member in members {
        for dependency in &member.ours {
            let Some(below) = floor_of(dependency) else { continue };
            let reason = match (member.floor, below) {
                (Floor::Xtask, _) => "xtask is built before everything else",
                (Floor::Services, Floor::Services) => "services meet on the wire only",
                (Floor::Crates, _) if member.name == DIFFUSION => "it is mathematics alone",
                (Floor::Crates, Floor::Crates) => continue,
                (floor, below) if below < floor => continue,
                _ => "dependencies point down",
            };
            wrong.push(format!("{} depends on {dependency}: {reason}", member.name));
        }
    }
    wrong
}

/// The dependencies of a manifest that carry their own version, path or source, in every table that can hold any.
fn outside_the_table(manifest: &toml::Table) -> Vec<String> {
    const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let targets = targets.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    std::iter::once(manifest)
        .chain(targets)
        .flat_map(|table| TABLES.iter().filter_map(|name| table.get(*name)?.as_table()))
        .flatten()
        .filter(|(_, value)| value.get("workspace").and_then(toml::Value::as_bool) != Some(true))
        .map(|(name, _)| name.clone())
        .collect()
}
