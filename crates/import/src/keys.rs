//! The keys of a configuration file, read one by one: what is wrong with one is said with its name, its value and what it may be.
//!
//! Python writes null for what is not set, so null and a missing key are the same here.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ImportError;
use crate::source::Source;

/// A configuration file that is an object.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    path: PathBuf,
    map: Map<String, Value>,
}

/// What a key may hold.
pub(crate) trait Held: Sized {
    /// In words, after "must be".
    const WHAT: &'static str;

    fn of(value: &Value) -> Option<Self>;
}

impl Keys {
    /// Reads the file `relative`, which is needed because of `why`.
    pub(crate) fn read(source: &Source, relative: &str, why: &str) -> Result<Self, ImportError> {
        let path = source.file(relative, why)?;
        match source.json(relative, why)? {
            Value::Object(map) => Ok(Self { path, map }),
            _ => Err(ImportError::wrong(&path, "must be an object of keys and values: { … }")),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says, as it came.
    pub(crate) fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.map
    }

    /// Whether the key is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// The value of a key, if it is set.
    pub(crate) fn get<T: Held>(&self, key: &str) -> Result<Option<T>, ImportError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                T::of(value).map(Some).ok_or_else(|| self.wrong(key, format!("must be {}", T::WHAT)))
            }
        }
    }

    /// The value of a key that has to be set. Each of `keys` is a name that it goes by.
    pub(crate) fn need<T: Held>(&self, keys: &[&str]) -> Result<T, ImportError> {
        for key in keys {
            if let Some(value) = self.get(key)? {
                return Ok(value);
            }
        }
        let key = keys.first().copied().unwrap_or_default();
        Err(self.wrong(key, format!("must be {}", T::WHAT)))
    }

    /// Whether a key is true.
    pub(crate) fn is(&self, key: &str) -> Result<bool, ImportError> {
        Ok(self.get(key)?.unwrap_or(false))
    }

    /// Refuses a key that is set to anything but `only`, because of `why`.
    pub(crate) fn only(&self, key: &str, only: &Value, why: &str) -> Result<(), ImportError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if value == only => Ok(()),
            Some(_) => Err(self.wrong(key, format!("must be {only}: {why}"))),
        }
    }

    /// Keys that are none of `known`, in words for a note.
    pub(crate) fn note_others(&self, known: &[&str], notes: &mut Vec<String>) {
        let others = self.map.keys().filter(|key| !known.contains(&key.as_str()) && self.has(key));
        let others: Vec<&str> = others.map(String::as_str).collect();
        if !others.is_empty() {
            notes.push(format!(
                "{}: {} not known here, and left aside",
                self.path.display(),
                match &others[..] {
                    [one] => format!("{one} is"),
                    several => format!("{} are", several.join(", ")),
                }
            ));
        }
    }

    /// An error about a key: what it must be, and what it is.
    pub(crate) fn wrong(&self, key: &str, must: impl std::fmt::Display) -> ImportError {
        let given = match self.map.get(key) {
            None => "it is missing".to_owned(),
            Some(value) => format!("got {}", short(value)),
        };
        ImportError::wrong(&self.path, format!("{key} {must} ({given})"))
    }
}

/// A value for people: not more than a line of it.
pub(crate) fn short(value: &Value) -> String {
    const MAX: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

impl Held for bool {
    const WHAT: &'static str = "true or false";

    fn of(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Held for usize {
    const WHAT: &'static str = "a whole number";

    fn of(value: &Value) -> Option<Self> {
        Self::try_from(value.as_u64()?).ok()
    }
}

impl Held for u32 {
    const WHAT: &'static str = "a whole number";

    fn of(value: &Value) -> Option<Self> {
        Self::try_from(value.as_u64()?).ok()
    }
}

impl Held for f64 {
    const WHAT: &'static str = "a number";

    fn of(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Held for f32 {
    const WHAT: &'static str = "a number";

    fn of(value: &Value) -> Option<Self> {
        value.as_f64().map(|number| number as Self).filter(|number| number.is_finite())
    }
}

impl Held for String {
    const WHAT: &'static str = "a text";

    fn of(value: &Value) -> Option<Self> {
        value.as_str().map(ToOwned::to_owned)
    }
}

impl Held for Vec<usize> {
    const WHAT: &'static str = "a list of whole numbers";

    fn of(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(usize::of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(map: &Value) -> Keys {
        Keys { path: "unet/config.json".into(), map: map.as_object().cloned().unwrap() }
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_with_its_name_and_value() {
        let keys = keys(
            &json!({"side": "64", "none": null, "list": [1, "2"], "negative": -1, "long": "x".repeat(200)}),
        );
        let refusal = |result: Result<(), ImportError>| result.unwrap_err().to_string();
        let told = refusal(keys.get::<usize>("side").map(|_| ()));
        assert_eq!(told, "unet/config.json: side must be a whole number (got \"64\")");
        let told = refusal(keys.need::<usize>(&["none"]).map(|_| ()));
        assert_eq!(told, "unet/config.json: none must be a whole number (got null)");
        let told = refusal(keys.need::<bool>(&["nowhere"]).map(|_| ()));
        assert_eq!(told, "unet/config.json: nowhere must be true or false (it is missing)");
        assert!(keys.get::<Vec<usize>>("list").is_err() && keys.get::<u32>("negative").is_err());
        assert!(refusal(keys.get::<f32>("long").map(|_| ())).len() < 160);
        assert_eq!(keys.get::<f64>("none").unwrap(), None);
        assert!(keys.only("side", &json!("64"), "").is_ok() && keys.only("side", &json!("65"), "").is_err());
        let mut notes = Vec::new();
        keys.note_others(&["side", "list", "negative"], &mut notes);
        assert_eq!(notes, ["unet/config.json: long is not known here, and left aside"], "null is not set");
    }
}
