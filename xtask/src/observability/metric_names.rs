//! What OpenTelemetry's metrics are called in Prometheus, as docs/metrics.md says.

use serde_json::Value;

/// The names of the series of a metric, which is as OTLP writes it in JSON.
pub(super) fn of(metric: &Value) -> Vec<String> {
    let name = metric["name"].as_str().unwrap_or_default().replace('.', "_");
    let unit = match metric["unit"].as_str() {
        Some("s") => "_seconds",
        Some("By") => "_bytes",
        _ => "",
    };
    let name = format!("{name}{unit}");
    if metric.get("histogram").is_some() {
        return ["_bucket", "_count", "_sum"].map(|series| format!("{name}{series}")).to_vec();
    }
    let is_counter = metric["sum"]["isMonotonic"].as_bool().unwrap_or_default();
    vec![if is_counter { format!("{name}_total") } else { name }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn units_and_kinds_are_in_the_names() {
        for (metric, names) in [
            (json!({"name": "reverie.serving", "gauge": {}}), vec!["reverie_serving"]),
            (json!({"name": "a.b", "unit": "{job}", "sum": {"isMonotonic": true}}), vec!["a_b_total"]),
            (json!({"name": "a", "unit": "By", "sum": {"isMonotonic": false}}), vec!["a_bytes"]),
            (json!({"name": "a", "unit": "s", "sum": {"isMonotonic": true}}), vec!["a_seconds_total"]),
            (
                json!({"name": "a.b", "unit": "s", "histogram": {}}),
                vec!["a_b_seconds_bucket", "a_b_seconds_count", "a_b_seconds_sum"],
            ),
        ] {
            assert_eq!(of(&metric), names);
        }
    }
}
