//! A real Prometheus, which scrapes the admin ports and evaluates the chart's rules.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::background::{Background, free_port};
use super::mesh::{Mesh, get};
use super::programs::Programs;
use crate::chart::monitoring;
use crate::workspace::Workspace;
use crate::{Outcome, chart, process, wait};

/// For Prometheus to start or to evaluate, on a machine that does other things.
const PATIENCE: Duration = Duration::from_mins(1);

/// The running Prometheus.
#[derive(Debug)]
pub(super) struct Prometheus {
    _program: Background,
    url: String,
}

impl Prometheus {
    /// Starts it on a free port; each service is a target with the labels that the chart gives it.
    pub(super) fn start(
        programs: &Programs,
        workspace: &Workspace,
        mesh: &Mesh<'_>,
        folder: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let targets = mesh.admin_ports().map(|(service, port)| {
            let labels = json!({"namespace": "test", "component": service, "pod": service});
            json!({"targets": [format!("127.0.0.1:{port}")], "labels": labels})
        });
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [chart::folder(workspace).join("files/alerts.yaml")],
            "scrape_configs": [{"job_name": "reverie", "static_configs": targets.collect::<Vec<_>>()}],
        });
        let (file, port) = (folder.join("prometheus.yaml"), free_port()?);
        // JSON is YAML.
        fs::write(&file, config.to_string())?;
        let mut command = Command::new(&programs.prometheus);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut program = Background::start("prometheus", &mut command, folder)?;
        let url = format!("http://127.0.0.1:{port}");
        program.wait_until(PATIENCE, || get(&format!("{url}/-/ready")).is_ok())?;
        Ok(Self { _program: program, url })
    }

    /// What a query gives.
    fn query(&self, query: &str) -> Result<Value, Box<dyn Error>> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--get",
            "--data-urlencode",
            &format!("query={query}"),
        ]);
        let answer = process::capture(curl.arg(format!("{}/api/v1/query", self.url)));
        let answer: Value =
            serde_json::from_slice(&answer.map_err(|error| format!("{query}: {error}"))?.stdout)?;
        Ok(answer["data"]["result"].clone())
    }

    /// The value of a query that gives one.
    pub(super) fn value(&self, query: &str) -> Option<f64> {
        self.query(query).ok()?[0]["value"][1].as_str()?.parse().ok()
    }

    /// All metrics that it has.
    pub(super) fn metric_names(&self) -> Result<BTreeSet<String>, Box<dyn Error>> {
        let answer: Value =
            serde_json::from_str(&get(&format!("{}/api/v1/label/__name__/values", self.url))?)?;
        let names = answer["data"].as_array().ok_or("Prometheus names no metrics")?;
        Ok(names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| !name.starts_with("ALERTS"))
            .map(str::to_owned)
            .collect())
    }

    /// Every target is read, every rule and every query of the dashboard can be evaluated, and no alert fires.
    pub(super) fn check_rules(&self, workspace: &Workspace) -> Outcome {
        let down = self.query("up != 1")?;
        if down.as_array().is_none_or(|down| !down.is_empty()) {
            return Err(format!("Prometheus cannot read {down}").into());
        }
        let rules = || -> Result<Vec<Value>, Box<dyn Error>> {
            let answer: Value = serde_json::from_str(&get(&format!("{}/api/v1/rules", self.url))?)?;
            let groups = answer["data"]["groups"].as_array().into_iter().flatten();
            Ok(groups.filter_map(|group| group["rules"].as_array()).flatten().cloned().collect())
        };
        wait::until("Prometheus to evaluate the rules", PATIENCE, || {
            let rules = rules().ok()?;
            (!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")).then_some(())
        })?;
        let mut wrong = String::new();
        for rule in rules()? {
            if rule["health"] != "ok" || rule["state"] == "firing" {
                let _ = writeln!(
                    wrong,
                    "{} is {} and {}: {}",
                    rule["name"], rule["health"], rule["state"], rule["lastError"]
                );
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.into());
        }
        for query in monitoring::dashboard_queries(workspace)? {
            self.query(&query)?;
        }
        Ok(())
    }
}
