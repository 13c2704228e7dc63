//! Tables with an image in each row, as the `ImageFolder` of Hugging Face's datasets has them: `metadata.jsonl` and `metadata.csv`.
//! `file_name` (or `image`) is the image, `text` or `caption` the caption; `id` and `attribution` are taken if they are there, and all
//! other columns are metadata. Without `id`, an image's path is its id.

use reverie_knowledge::epoch::{Label, Metadata, Value};
use serde_json::{Map, Value as Json};

use super::{Columns, Item, Place, Problem, Read, jsonl};
use crate::knowledge::picture_files::PictureFile;

const FILES: [&str; 2] = ["file_name", "image"];
const CAPTIONS: [&str; 2] = ["text", "caption"];

/// The items of a `metadata.jsonl`.
pub(super) fn jsonl(bytes: &[u8], columns: &Columns) -> Read {
    let (lines, problems) = jsonl::lines::<Map<String, Json>>(bytes);
    items(lines, problems, columns)
}

/// The items of a `metadata.csv`, whose first line names the columns. Numbers, and true and false, are metadata of that kind.
pub(super) fn csv(bytes: &[u8], columns: &Columns) -> Result<Read, String> {
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let mut lines = Lines { bytes, at: 0, line: 1 };
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = lines.of(record.position());
                let cells = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
                let row = cells.map(|(name, cell)| (name.to_owned(), cell_value(name, cell, columns)));
                rows.push((Place::Line(line), row.collect()));
            }
            Err(error) => {
                let line = lines.of(error.position());
                problems.push(Problem::at(Place::Line(line), error.to_string()));
            }
        }
    }
    Ok(items(rows, problems, columns))
}

/// Counts lines. The reader counts them too, but a record after a Windows line end as if it began before it.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line of a record that comes after those asked for before.
    fn of(&mut self, position: Option<&csv::Position>) -> usize {
        let begin =
            position.map_or(self.at, |position| position.byte() as usize).clamp(self.at, self.bytes.len());
        let blank = self.bytes[begin..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let begin = begin + blank;
        self.line += self.bytes[self.at..begin].split(|byte| *byte == b'\n').count() - 1;
        self.at = begin;
        self.line
    }
}

/// What a cell says. Texts are texts, however much they look like a number.
fn cell_value(name: &str, cell: &str, columns: &Columns) -> Json {
    let is_text = ["id", "attribution"].into_iter().chain(FILES).chain(CAPTIONS).any(|text| text == name)
        || columns.caption.as_deref() == Some(name);
    match cell {
        _ if is_text => cell.into(),
        "true" | "True" => true.into(),
        "false" | "False" => false.into(),
        _ => cell
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map_or_else(|| cell.into(), Json::from),
    }
}

fn items(rows: Vec<(Place, Map<String, Json>)>, mut problems: Vec<Problem>, columns: &Columns) -> Read {
    let mut items = Vec::with_capacity(rows.len());
    for (place, mut row) in rows {
        let image = FILES.iter().find_map(|name| row.remove(*name));
        let Some(Json::String(image)) = image else {
            problems
                .push(Problem::at(place, "it has no column file_name with the path of an image".to_owned()));
            continue;
        };
        match label(row, &image, columns) {
            Ok(label) => items.push(Item { place, label, file: PictureFile::named(image) }),
            Err(why) => problems.push(Problem { file: image, ..Problem::at(place, why) }),
        }
    }
    (items, problems)
}

/// What the other columns of a row say of an image; `id` is its id if they do not.
pub(super) fn label(mut row: Map<String, Json>, id: &str, columns: &Columns) -> Result<Label, String> {
    let caption = match &columns.caption {
        Some(column) => row.remove(column),
        None => CAPTIONS.iter().find_map(|name| row.remove(*name)),
    };
    let Some(Json::String(caption)) = caption else {
        let column = columns.caption.as_deref().unwrap_or("text");
        return Err(format!("it has no text in the column {column}; --caption-column names another one"));
    };
    let id = match row.remove("id") {
        None | Some(Json::Null) => id.to_owned(),
        Some(Json::String(id)) => id,
        Some(Json::Number(number)) if !number.is_f64() => number.to_string(),
        Some(_) => return Err("id must be a string or an integer".to_owned()),
    };
    let attribution = match row.remove("attribution") {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(attribution)) => attribution,
        Some(_) => return Err("attribution must be a string".to_owned()),
    };
    let mut metadata = Metadata::new();
    for (key, value) in row {
        if columns.metadata.as_ref().is_some_and(|kept| !kept.contains(&key)) {
            continue;
        }
        let value = match value {
            Json::Null => continue,
            Json::String(text) => Value::Text(text),
            Json::Bool(flag) => Value::Flag(flag),
            Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::Array(_) | Json::Object(_) => {
                return Err(format!(
                    "the column {key} is a list or an object; metadata are texts, numbers, and true or false (--metadata names the columns \
                     to keep)"
                ));
            }
        };
        metadata.insert(key, value);
    }
    Ok(Label { id, caption, attribution, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told((items, problems): &Read) -> (Vec<String>, Vec<String>) {
        let item = |item: &Item| {
            let Label { id, caption, attribution, metadata } = &item.label;
            format!("{}: {id} {caption:?} {attribution:?} {} {metadata:?}", item.place, item.file.name)
        };
        (items.iter().map(item).collect(), problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_table_of_json_is_read() {
        let text = r#"{"file_name": "a/1.png", "text": "a fox", "year": 1999, "wild": true, "by": null}
{"file_name": "2.png", "caption": "a hen", "id": 7, "attribution": "me"}
{"text": "an owl"}
{"file_name": "3.png"}
{"file_name": "4.png", "text": "a cat", "objects": {"bbox": []}}"#;
        let (items, problems) = told(&jsonl(text.as_bytes(), &Columns::default()));
        assert_eq!(
            items,
            [
                r#"line 1: a/1.png "a fox" "" a/1.png {"wild": Flag(true), "year": Number(1999.0)}"#,
                r#"line 2: 7 "a hen" "me" 2.png {}"#,
            ]
        );
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("line 3: it has no column file_name"), "{problems:?}");
        assert!(
            problems[1].starts_with("line 4, \"3.png\": it has no text in the column text"),
            "{problems:?}"
        );
        assert!(problems[2].contains("the column objects is a list or an object"), "{problems:?}");
    }

    #[test]
    fn columns_that_are_not_wanted_are_left_out() {
        let text =
            r#"{"file_name": "1.png", "text": "a fox", "year": 1999, "wild": true, "objects": {"bbox": []}}"#;
        for (kept, metadata) in
            [(&["year", "by"][..], r#"{"year": Number(1999.0)}"#), (&[], "{}"), (&[""], "{}")]
        {
            let metadata_columns = Some(kept.iter().map(|&name| name.to_owned()).collect());
            let columns = Columns { metadata: metadata_columns, ..Columns::default() };
            let (items, problems) = told(&jsonl(text.as_bytes(), &columns));
            assert_eq!(items, [format!(r#"line 1: 1.png "a fox" "" 1.png {metadata}"#)]);
            assert!(problems.is_empty(), "{problems:?}");
        }
    }

    #[test]
    fn a_table_of_csv_is_read() {
        let text = "file_name,title,year,text,id\r\n1.png,\"a \"\"red\"\"\nfox, 1\",1999,ours,007\n2.png,12,,x,8\n3.png,a hen\n4.png,,,,\n";
        let columns = Columns { caption: Some("title".to_owned()), metadata: None };
        let (items, problems) = told(&csv(text.as_bytes(), &columns).unwrap());
        assert_eq!(
            items,
            [
                r#"line 2: 007 "a \"red\"\nfox, 1" "" 1.png {"text": Text("ours"), "year": Number(1999.0)}"#,
                r#"line 4: 8 "12" "" 2.png {"text": Text("x")}"#,
            ]
        );
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("line 5: ") && problems[0].contains("fields"), "{problems:?}");
        assert!(
            problems[1].starts_with("line 6, \"4.png\": it has no text in the column title"),
            "{problems:?}"
        );
    }
}
