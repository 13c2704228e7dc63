//! The chart's release under test: installed, upgraded, rolled back, removed.

use std::error::Error;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::access::{Access, NAMESPACE};

/// The release's name.
pub(super) const RELEASE: &str = "reverie";
/// The pipeline's Deployment and Service.
pub(super) const PIPELINE: &str = "reverie-pipeline";
/// The image with the command `reverie`.
pub(super) const CLIENT_IMAGE: &str = "localhost/reverie/reverie:dev";
/// Services start within this, images and models included.
const TIMEOUT: &str = "240s";

/// A chart, and the values it is installed with.
#[derive(Debug)]
pub(super) struct Release<'a> {
    pub(super) access: &'a Access,
    /// A folder or a packed chart.
    pub(super) chart: PathBuf,
    /// Files of values, the last of which wins.
    pub(super) values: Vec<PathBuf>,
}

impl Release<'_> {
    /// Installs it into a namespace of its own that admits only pods of the level "restricted".
    pub(super) fn install(&self) -> Result<(), Box<dyn Error>> {
        self.access.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }))?;
        self.helm("install", &[])
    }

    /// Upgrades it with further values, `--set-json` arguments, and waits until the new pods serve.
    pub(super) fn upgrade(&self, set: &[&str]) -> Result<(), Box<dyn Error>> {
        self.helm("upgrade", set)
    }

    /// Upgrades without waiting for pods.
    pub(super) fn upgrade_and_go_on(&self, set: &[&str]) -> Result<(), Box<dyn Error>> {
        let arguments = self.arguments("upgrade", set);
        self.access.helm(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(())
    }

    /// Goes back to the revision before.
    pub(super) fn roll_back(&self) -> Result<(), Box<dyn Error>> {
        self.access.helm(&["rollback", RELEASE, "--wait", "--timeout", TIMEOUT])?;
        Ok(())
    }

    /// Draws the chart's own test image.
    pub(super) fn test(&self) -> Result<(), Box<dyn Error>> {
        let told = self.access.helm(&["test", RELEASE, "--timeout", TIMEOUT])?;
        // Helm is also content with a chart that has no test.
        if told.contains("Succeeded") {
            Ok(())
        } else {
            Err(format!("`helm test` ran no test:\n{told}").into())
        }
    }

    /// Removes it and returns the objects of the release that are still there.
    pub(super) fn uninstall(&self) -> Result<Vec<String>, Box<dyn Error>> {
        self.access.helm(&[
            "uninstall",
            RELEASE,
            "--wait",
            "--cascade",
            "foreground",
            "--timeout",
            TIMEOUT,
        ])?;
        let kinds = "all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,\
                     horizontalpodautoscalers,persistentvolumeclaims,endpointslices";
        let selector = format!("--selector=app.kubernetes.io/instance={RELEASE}");
        let left = self.access.run(&["get", kinds, &selector, "--output=name"])?;
        Ok(left.lines().map(str::to_owned).collect())
    }

    fn helm(&self, verb: &str, set: &[&str]) -> Result<(), Box<dyn Error>> {
        let mut arguments = self.arguments(verb, set);
        arguments.extend(["--wait", "--timeout", TIMEOUT].map(str::to_owned));
        self.access.helm(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(())
    }

    fn arguments(&self, verb: &str, set: &[&str]) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut arguments = vec![verb.to_owned(), RELEASE.to_owned(), path(&self.chart)];
        for file in &self.values {
            arguments.extend(["--values".to_owned(), path(file)]);
        }
        for assignment in set {
            arguments.extend(["--set-json".to_owned(), (*assignment).to_owned()]);
        }
        arguments
    }
}
