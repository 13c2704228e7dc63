//! What a text means for a setting: the default's type decides, never the look of the text.

use toml::{Table, Value};

/// Reads `text` for a setting whose default is `default`. A setting without a default (an entry of a table of names) is a text.
///
/// # Errors
/// What must be written instead.
pub(super) fn read(default: Option<&Value>, text: &str) -> Result<Value, String> {
    match default {
        None | Some(Value::String(_)) => Ok(Value::String(unquoted(text))),
        Some(Value::Array(items)) => list(items.first(), text),
        Some(other) => {
            let value = text.trim().parse().ok().filter(|value| fits(other, value));
            value.ok_or_else(|| must_be(other, &format!("{text:?}")))
        }
    }
}

/// Says which value of a settings file has another type than the default: its key, and what it must be.
pub(super) fn mismatch(defaults: &Table, table: &Table) -> Option<(String, String)> {
    table.iter().find_map(|(key, value)| match (defaults.get(key)?, value) {
        (Value::Table(defaults), Value::Table(table)) => {
            mismatch(defaults, table).map(|(within, why)| (format!("{key}.{within}"), why))
        }
        // Some texts may be lists as well; who reads the settings knows.
        (Value::String(_), Value::Array(items)) if items.iter().all(Value::is_str) => None,
        (default, value) => {
            (!fits(default, value)).then(|| (key.clone(), must_be(default, &value.to_string())))
        }
    })
}

/// A text in quotes is a TOML string; any other is what it is.
fn unquoted(text: &str) -> String {
    let quoted = text.trim().starts_with(['"', '\'']).then(|| text.trim().parse());
    match quoted {
        Some(Ok(Value::String(text))) => text,
        _ => text.to_owned(),
    }
}

/// A list in TOML, or items with commas between them.
fn list(item: Option<&Value>, text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.starts_with('[') {
        let Ok(Value::Array(items)) = text.parse() else {
            return Err(format!("must be a list such as [\"a\", \"b\"] or a,b (got {text:?})"));
        };
        let text_item = Value::String(String::new());
        let item = item.unwrap_or(&text_item);
        return match items.iter().find(|found| !fits(item, found)) {
            Some(wrong) => Err(format!("each item {}", must_be(item, &wrong.to_string()))),
            None => Ok(Value::Array(items)),
        };
    }
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|text| read(item, text)).collect::<Result<_, _>>().map(Value::Array)
}

fn fits(default: &Value, value: &Value) -> bool {
    default.same_type(value) || matches!((default, value), (Value::Float(_), Value::Integer(_)))
}

fn must_be(default: &Value, got: &str) -> String {
    let what = match default {
        Value::String(_) => "a text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table such as { name = \"value\" }",
    };
    format!("must be {what} (got {got})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_decides_the_type() {
        let text = Value::from("red");
        for kept in ["007", "1e3", "TRUE", "true", "0x10", "[a]", "1979-05-27", " a b ", "", "it's", "a\"b\""]
        {
            assert_eq!(read(Some(&text), kept), Ok(Value::from(kept)), "{kept:?}");
            assert_eq!(read(None, kept), Ok(Value::from(kept)), "{kept:?}");
        }
        for (quoted, meant) in [("\"\"", ""), ("'7'", "7"), (r#""a\"b""#, "a\"b"), ("\"open", "\"open")] {
            assert_eq!(read(Some(&text), quoted), Ok(Value::from(meant)), "{quoted}");
        }
        assert_eq!(read(Some(&Value::from(1)), " 12 "), Ok(Value::from(12)));
        assert_eq!(read(Some(&Value::from(1.5)), "2"), Ok(Value::from(2)));
        assert_eq!(read(Some(&Value::from(false)), "true"), Ok(Value::from(true)));
        let table: Table = toml::from_str("a-b = '1'").unwrap();
        assert_eq!(read(Some(&Table::new().into()), "{ a-b = '1' }"), Ok(table.into()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (default, text, said) in [
            (Value::from(1), "", "a whole number (got \"\")"),
            (Value::from(1), "1.5", "a whole number"),
            (Value::from(1), "\"1\"", "a whole number"),
            (Value::from(1.5), "fast", "a number"),
            (Value::from(true), "TRUE", "true or false (got \"TRUE\")"),
            (Value::Array(Vec::new()), "[a", "must be a list"),
            (Value::Array(Vec::new()), "[1]", "each item must be a text in quotes (got 1)"),
        ] {
            let refused = read(Some(&default), text).unwrap_err();
            assert!(refused.contains(said), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_list_is_toml_or_has_commas() {
        let items = |items: &[&str]| Value::Array(items.iter().map(|item| Value::from(*item)).collect());
        let default = items(&["http://127.0.0.1:7105"]);
        for (text, meant) in [
            ("", items(&[])),
            ("[]", items(&[])),
            ("http://a:1", items(&["http://a:1"])),
            ("http://a:1, http://b:2", items(&["http://a:1", "http://b:2"])),
            ("[\"a,b\", '7']", items(&["a,b", "7"])),
            ("7,8", items(&["7", "8"])),
        ] {
            assert_eq!(read(Some(&default), text), Ok(meant.clone()), "{text:?}");
            assert_eq!(read(Some(&Value::Array(Vec::new())), text), Ok(meant), "{text:?}");
        }
        let numbers = Value::Array(vec![Value::from(1)]);
        assert_eq!(read(Some(&numbers), "7,8"), Ok(Value::Array(vec![Value::from(7), Value::from(8)])));
        assert!(read(Some(&numbers), "7,x").is_err());
    }
}
