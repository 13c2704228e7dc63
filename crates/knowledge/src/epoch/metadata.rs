//! What else is said of an entry: values by key, which searches filter by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Values by key.
pub type Metadata = BTreeMap<String, Value>;

/// Most keys of an entry.
const MAX_KEYS: usize = 64;
const MAX_KEY_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 1000;
/// Most bytes of the keys and texts of one entry.
pub(super) const MAX_METADATA_BYTES: usize = 8000;

/// A value of metadata; in JSON a string, a number, or true or false.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "metadata must be a string, a number, or true or false")]
pub enum Value {
    /// A text of at most 1,000 bytes.
    Text(String),
    /// A finite number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
}

/// Checks the metadata of an entry: at most 64 keys of 1 to 64 bytes, texts of at most 1,000 bytes, 8,000 bytes in all, no control
/// characters, finite numbers.
pub fn check_metadata(metadata: &Metadata) -> Result<(), String> {
    if metadata.len() > MAX_KEYS {
        return Err(format!("metadata must have at most {MAX_KEYS} keys (got {})", metadata.len()));
    }
    for (key, value) in metadata {
        check_key(key)?;
        let text = match value {
            Value::Text(text) => text.as_str(),
            Value::Number(number) if !number.is_finite() => {
                return Err(format!("metadata {key:?} must be a finite number"));
            }
            Value::Number(_) | Value::Flag(_) => "",
        };
        if text.len() > MAX_VALUE_BYTES || text.chars().any(char::is_control) {
            return Err(format!(
                "metadata {key:?} must have at most {MAX_VALUE_BYTES} bytes and no control characters"
            ));
        }
    }
    let bytes = bytes_of(metadata);
    if bytes > MAX_METADATA_BYTES {
        return Err(format!("metadata must have at most {MAX_METADATA_BYTES} bytes in all (got {bytes})"));
    }
    Ok(())
}

/// Bytes of its keys and texts.
pub(super) fn bytes_of(metadata: &Metadata) -> usize {
    let text = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
    metadata.iter().map(|(key, value)| key.len() + text(value)).sum()
}

/// Checks a key of metadata: 1 to 64 bytes, no control characters.
pub fn check_key(key: &str) -> Result<(), String> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) && !key.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(format!(
            "a key of metadata must be 1 to {MAX_KEY_BYTES} bytes without control characters (got {key:?})"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<(), String> {
        let metadata: Metadata = serde_json::from_str(json).map_err(|error| error.to_string())?;
        check_metadata(&metadata)
    }

    #[test]
    fn strings_numbers_and_flags_are_values_and_nothing_else_is() {
        let metadata: Metadata =
            serde_json::from_str(r#"{"kind": "fox", "year": 1999, "wild": true}"#).unwrap();
        assert_eq!(metadata["kind"], Value::Text("fox".to_owned()));
        assert_eq!(metadata["year"], Value::Number(1999.0));
        assert_eq!(metadata["wild"], Value::Flag(true));
        for json in [r#"{"a": null}"#, r#"{"a": [1]}"#, r#"{"a": {"b": 1}}"#] {
            let why = read(json).unwrap_err();
            assert!(why.contains("must be a string, a number, or true or false"), "{why}");
        }
    }

    #[test]
    fn metadata_is_bounded() {
        let many: Vec<String> = (0..65).map(|number| format!(r#""{number}": 1"#)).collect();
        let large: Vec<String> =
            (0..9).map(|number| format!(r#""{number}": "{}""#, "x".repeat(900))).collect();
        let cases = [
            (format!("{{{}}}", many.join(",")), "at most 64 keys"),
            (format!("{{{}}}", large.join(",")), "at most 8000 bytes in all"),
            (format!(r#"{{"a": "{}"}}"#, "x".repeat(1001)), "at most 1000 bytes"),
            (r#"{"a": "b\u0007"}"#.to_owned(), "no control characters"),
            (r#"{"": 1}"#.to_owned(), "1 to 64 bytes"),
            (format!(r#"{{"{}": 1}}"#, "k".repeat(65)), "1 to 64 bytes"),
        ];
        for (json, expected) in cases {
            let why = read(&json).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
        assert!(check_metadata(&Metadata::from([("a".to_owned(), Value::Number(f64::NAN))])).is_err());
        assert_eq!(read("{}"), Ok(()));
    }
}
