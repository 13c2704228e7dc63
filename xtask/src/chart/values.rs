//! What must hold for the chart's values file and its schema.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::folder;
use crate::workspace::Workspace;

fn read(name: &str) -> String {
    fs::read_to_string(folder(&Workspace::locate()).join(name)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&read("values.schema.json")).unwrap()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// Objects that take any key without a word about who checks them.
fn open_objects(schema: &Value, path: &str) -> Vec<String> {
    let mut open = Vec::new();
    match schema {
        Value::Object(fields) => {
            let is_object = fields.get("type").is_some_and(|kind| kind == "object");
            let closed = fields.get("additionalProperties").is_some_and(|more| *more != Value::Bool(true));
            if is_object && !closed && !fields.contains_key("description") {
                open.push(path.to_owned());
            }
            for (name, inner) in fields {
                open.extend(open_objects(inner, &format!("{path}/{name}")));
            }
        }
        Value::Array(items) => {
            open.extend(items.iter().flat_map(|item| open_objects(item, path)));
        }
        _ => {}
    }
    open
}

#[test]
fn every_object_of_the_schema_is_closed() {
    assert_eq!(open_objects(&schema(), ""), Vec::<String>::new());
    let open = serde_json::json!({"properties": {"pipeline": {"type": "object", "properties": {}}}});
    assert_eq!(open_objects(&open, ""), ["/properties/pipeline"]);
}

#[test]
fn every_value_has_a_default() {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema = schema();
    let mut expected = keys(&schema["properties"]);
    // Helm's, not ours.
    expected.remove("global");
    assert_eq!(keys(&values), expected);
    for section in
        ["image", "models", "knowledge", "telemetry", "defaults", "autoscaler", "networkPolicy", "test"]
    {
        assert_eq!(keys(&values[section]), keys(&schema["properties"][section]["properties"]), "{section}");
    }
}

/// Keys with a value of their own and no comment in the line above. CPU and memory need none: the comment is that of `resources`.
fn without_comment(values: &str) -> Vec<&str> {
    let mut above = "";
    let mut bare = Vec::new();
    for line in values.lines() {
        let key = line.trim_start().split_once(':').filter(|(key, value)| {
            let is_key =
                !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '"' || c == '_');
            is_key && !value.trim().is_empty() && !matches!(*key, "requests" | "limits")
        });
        if key.is_some() && !above.trim_start().starts_with('#') {
            bare.push(line);
        }
        above = line;
    }
    bare
}

#[test]
fn every_value_has_a_comment() {
    assert_eq!(without_comment(&read("values.yaml")), Vec::<&str>::new());
    assert_eq!(without_comment("# What it is.\na: 1\nb: 2\nc:\n  # Too.\n  d: 3\n"), ["b: 2"]);
}
