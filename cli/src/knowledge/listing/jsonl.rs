//! Lists of which each line is an object of JSON.

use reverie_knowledge::epoch::{Label, Metadata};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::{Item, Place, Problem, Read};
use crate::knowledge::picture_files::PictureFile;

/// A line of `entries.jsonl`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(deserialize_with = "text_or_integer")]
    id: String,
    caption: String,
    image: String,
    #[serde(default)]
    attribution: String,
    #[serde(default)]
    metadata: Metadata,
}

/// The items of an `entries.jsonl`.
pub(super) fn own(bytes: &[u8]) -> Read {
    let (lines, problems) = lines::<Line>(bytes);
    let item = |(place, line): (Place, Line)| {
        let Line { id, caption, image, attribution, metadata } = line;
        Item { place, label: Label { id, caption, attribution, metadata }, file: PictureFile::named(image) }
    };
    (lines.into_iter().map(item).collect(), problems)
}

/// The lines of a list, and those that are none. Blank ones are left out.
pub(super) fn lines<T: DeserializeOwned>(bytes: &[u8]) -> (Vec<(Place, T)>, Vec<Problem>) {
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let parsed = match std::str::from_utf8(line) {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => serde_json::from_str(line).map_err(|error| in_words(&error)),
            Err(_) => Err("it is not UTF-8".to_owned()),
        };
        match parsed {
            Ok(line) => lines.push((Place::Line(number), line)),
            Err(why) => problems.push(Problem::at(Place::Line(number), why)),
        }
    }
    (lines, problems)
}

/// What serde says, without its own count of lines, which is always 1 here.
fn in_words(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    format!("column {}: {}", error.column(), told.strip_suffix(&place).unwrap_or(&told))
}

/// An id as databases write it.
fn text_or_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "id must be a string or an integer")]
    enum Id {
        Text(String),
        Positive(u64),
        Negative(i64),
    }
    Ok(match Id::deserialize(deserializer)? {
        Id::Text(text) => text,
        Id::Positive(number) => number.to_string(),
        Id::Negative(number) => number.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<(Place, String)> {
        own(text.as_bytes()).0.into_iter().map(|item| (item.place, item.label.id)).collect()
    }

    #[test]
    fn lists_of_every_editor_are_read() {
        let line = |id: &str| format!(r#"{{"id": {id}, "caption": "c", "image": "i.png"}}"#);
        let expected =
            vec![(Place::Line(1), "a".to_owned()), (Place::Line(3), "18446744073709551615".to_owned())];
        let (first, second) = (line("\"a\""), line("18446744073709551615"));
        assert_eq!(ids(&format!("{first}\n\n{second}")), expected);
        assert_eq!(ids(&format!("{first}\r\n \r\n{second}\r\n")), expected);
        assert_eq!(ids(&line("-5"))[0].1, "-5");
    }

    #[test]
    fn a_line_that_is_none_is_told_by_number_and_column() {
        let text = b"{\"id\": \"a\", \"caption\": \"c\", \"image\": \"i\"}\n{\"id\": 5.5}\nnonsense\n\xff\n{\"id\": \"b\", \"captoin\": 1}";
        let (items, problems) = own(text);
        assert_eq!(items.len(), 1);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].starts_with("line 2: column 11: id must be a string or an integer"), "{told:?}");
        assert!(told[1].starts_with("line 3: column") && !told[1].contains("at line 1"), "{told:?}");
        assert_eq!(told[2], "line 4: it is not UTF-8");
        assert!(told[3].contains("unknown field `captoin`"), "{told:?}");
    }
}
