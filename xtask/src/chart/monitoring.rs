//! The alert rules and the dashboard: Prometheus' own checks here, and in the tests below whether every metric they name is one that
//! services export, and whether every alert has a test and an entry in the runbook.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::folder;
use crate::Outcome;
use crate::process;
use crate::workspace::Workspace;

/// Lets promtool read the rules and the dashboard's queries, and run the rules' tests.
pub(crate) fn check_rules(workspace: &Workspace, promtool: &Path) -> Outcome {
    let folder = folder(workspace);
    let promtool = |words: [&str; 2]| {
        let mut command = Command::new(promtool);
        command.args(words);
        command
    };
    process::capture(promtool(["check", "rules"]).arg(folder.join("files/alerts.yaml")))?;
    process::capture(promtool(["test", "rules"]).arg(folder.join("tests/alerts_test.yaml")))?;
    // promtool knows no dashboards; each query can be a rule.
    let queries = dashboard_queries(workspace)?;
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| json!({"record": format!("query:{number}"), "expr": query}))
        .collect();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    // JSON is YAML.
    fs::write(file.path(), json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string())?;
    process::capture(promtool(["check", "rules"]).arg(file.path()))?;
    Ok(())
}

/// The queries of all panels, with Grafana's variables for ranges filled in.
pub(crate) fn dashboard_queries(workspace: &Workspace) -> Result<Vec<String>, Box<dyn Error>> {
    let dashboard: Value =
        serde_json::from_slice(&fs::read(folder(workspace).join("files/dashboard.json"))?)?;
    let panels = dashboard["panels"].as_array().ok_or("the dashboard has no panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    Ok(targets
        .filter_map(|target| target["expr"].as_str())
        .map(|query| query.replace("$__rate_interval", "5m"))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Prometheus' own, of every target.
    const OF_PROMETHEUS: [&str; 1] = ["up"];

    fn read(path: &str) -> String {
        fs::read_to_string(Workspace::locate().root().join(path)).unwrap()
    }

    fn alerts() -> Vec<Value> {
        let rules: Value = serde_saphyr::from_str(&read("charts/reverie/files/alerts.yaml")).unwrap();
        let groups = rules["groups"].as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    fn names() -> Vec<String> {
        alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect()
    }

    /// The metrics that a query reads: what is left when strings, selectors, ranges, groupings, functions and words are gone.
    fn metrics_of(query: &str) -> BTreeSet<String> {
        const WORDS: [&str; 7] = ["and", "or", "unless", "bool", "offset", "inf", "nan"];
        const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
        let mut found = BTreeSet::new();
        let mut rest = query;
        while let Some(first) = rest.chars().next() {
            let after = |close: char| rest.split_once(close).map_or("", |(_, after)| after);
            if first.is_ascii_alphabetic() || first == '_' {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
                let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
                rest = tail;
                let next = tail.trim_start();
                let called = ["(", "by ", "without "].iter().any(|start| next.starts_with(start));
                if GROUPINGS.contains(&word) {
                    rest = tail.split_once(')').map_or("", |(_, after)| after);
                } else if !called && !WORDS.contains(&word) {
                    found.insert(word.to_owned());
                }
            } else if first == '{' {
                rest = after('}');
            } else if first == '[' {
                rest = after(']');
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        found
    }

    /// All names in the page, as Prometheus has them: those of histograms end in _bucket, _sum and _count.
    fn exported() -> BTreeSet<String> {
        let page = read("docs/metrics.md");
        let quoted = page.split('`').skip(1).step_by(2).map(str::to_owned);
        quoted.flat_map(|name| ["", "_bucket", "_sum", "_count"].map(|end| format!("{name}{end}"))).collect()
    }

    #[test]
    fn queries_name_metrics_that_services_export() {
        let exported = exported();
        let queries = dashboard_queries(&Workspace::locate()).unwrap().into_iter();
        let alerts = alerts().into_iter().map(|alert| alert["expr"].as_str().unwrap().to_owned());
        let unknown: Vec<_> = queries
            .chain(alerts)
            .flat_map(|query| metrics_of(&query))
            .filter(|name| !exported.contains(name) && !OF_PROMETHEUS.contains(&name.as_str()))
            .collect();
        assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
    }

    #[test]
    fn every_query_reads_a_metric() {
        for query in dashboard_queries(&Workspace::locate()).unwrap() {
            assert!(!metrics_of(&query).is_empty(), "{query}");
        }
    }

    #[test]
    fn a_query_is_taken_apart() {
        let query = r#"histogram_quantile(0.95, sum by (component, le) (rate(a_bucket{x="b_c"}[5m]))) unless on (pod) d > 1"#;
        assert_eq!(metrics_of(query), ["a_bucket", "d"].map(str::to_owned).into());
    }

    #[test]
    fn every_alert_has_an_entry_in_the_runbook_and_no_entry_is_left_over() {
        let runbook = read("docs/runbook.md");
        let entries: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("## Reverie")).collect();
        let expected: Vec<_> =
            names().iter().map(|name| name.trim_start_matches("Reverie").to_owned()).collect();
        assert_eq!(entries, expected, "docs/runbook.md has the alerts in the order of alerts.yaml");
        for alert in alerts() {
            let name = alert["alert"].as_str().unwrap().to_lowercase();
            assert_eq!(alert["annotations"]["runbook_url"], format!("docs/runbook.md#{name}"));
        }
    }

    #[test]
    fn every_alert_is_tested_to_fire_and_to_be_quiet() {
        let tests: Value = serde_saphyr::from_str(&read("charts/reverie/tests/alerts_test.yaml")).unwrap();
        let tests = tests["tests"].as_array().unwrap();
        for name in names() {
            let expectations: Vec<bool> = tests
                .iter()
                .flat_map(|test| test["alert_rule_test"].as_array().unwrap())
                .filter(|test| test["alertname"] == name.as_str())
                .map(|test| !test["exp_alerts"].as_array().unwrap().is_empty())
                .collect();
            assert!(
                expectations.contains(&true) && expectations.contains(&false),
                "{name}: {expectations:?}"
            );
        }
    }
}
