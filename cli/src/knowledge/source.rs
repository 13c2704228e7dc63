//! `entries.jsonl` and the pictures it names: read, checked, and everything that is wrong with them. Pictures are not kept: they are
//! read again when they are needed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt as _;
use reverie_knowledge::epoch::{Label, Metadata, check_attribution, check_caption, check_id, check_metadata};
use serde::Deserialize;

use super::picture_files::{Picture, PictureFolder};
use crate::Failure;
use crate::progress::counting_bar;

const LIST: &str = "entries.jsonl";

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Source {
    /// The list's name, for people.
    pub(super) list: String,
    files: PictureFolder,
    /// The good entries, in order.
    pub(super) candidates: Vec<Candidate>,
    /// What is wrong with the others, in order.
    pub(super) problems: Vec<Problem>,
}

/// An entry that can be embedded.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) label: Label,
    /// The file of its picture, within the folder.
    pub(super) file: String,
    /// Its line in the list, from 1.
    pub(super) line: usize,
    pub(super) picture: Picture,
}

impl Source {
    /// Reads the picture of a candidate.
    pub(super) async fn image(&self, candidate: &Candidate) -> Result<Bytes, Failure> {
        let Candidate { label, file, line, picture } = candidate;
        let problem =
            |why| Problem { line: *line, id: label.id.clone(), file: file.clone(), why }.to_string();
        Ok(self.files.again(file, &picture.digest).await.map_err(problem)?)
    }
}

/// What is wrong with an entry.
#[derive(Debug)]
pub(super) struct Problem {
    line: usize,
    id: String,
    file: String,
    why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}", self.line)?;
        if !self.id.is_empty() {
            write!(formatter, ", {:?}", self.id)?;
        }
        if !self.file.is_empty() {
            write!(formatter, ", {:?}", self.file)?;
        }
        write!(formatter, ": {}", self.why)
    }
}

/// A line of the list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    caption: String,
    image: String,
    #[serde(default)]
    attribution: String,
    #[serde(default)]
    metadata: Metadata,
}

/// Reads all of a folder. Fails only if there is no list that could be read.
pub(super) async fn read(folder: &Path) -> Result<Source, Failure> {
    let list = folder.join(LIST).display().to_string();
    let files = PictureFolder::open(folder)?;
    let told = |why: String| format!("{list}: {why}");
    let reader = files.clone();
    let bytes = tokio::task::spawn_blocking(move || reader.list(LIST)).await?.map_err(told)?;
    let (lines, mut problems) = parse(&bytes).map_err(told)?;
    problems.extend(check_texts(&lines));

    let bar = counting_bar("check", lines.len());
    let pictures = futures::stream::iter(lines.iter().map(|(_, line)| {
        let (files, image) = (files.clone(), line.image.clone());
        async move { files.picture(&image).await }
    }));
    // As many files at a time as there are processors.
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let pictures: Vec<_> = pictures.buffered(at_a_time).inspect(|_| bar.inc(1)).collect().await;
    bar.finish_and_clear();

    let mut candidates = Vec::new();
    for ((number, line), picture) in lines.into_iter().zip(pictures) {
        match picture {
            Ok(picture) => {
                let Line { id, caption, attribution, metadata, image: file } = line;
                let label = Label { id, caption, attribution, metadata };
                candidates.push(Candidate { label, file, line: number, picture });
            }
            Err(why) => problems.push(Problem { line: number, id: line.id, file: line.image, why }),
        }
    }
    let bad: HashSet<usize> = problems.iter().map(|problem| problem.line).collect();
    candidates.retain(|candidate| !bad.contains(&candidate.line));
    problems.sort_by_key(|problem| problem.line);
    Ok(Source { list, files, candidates, problems })
}

/// A line and its number, from 1.
type NumberedLine = (usize, Line);

/// The lines of a list with their numbers, and those that are none.
fn parse(bytes: &[u8]) -> Result<(Vec<NumberedLine>, Vec<Problem>), String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("it is UTF-16; save it as UTF-8".to_owned());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let parsed = match std::str::from_utf8(line) {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => serde_json::from_str(line).map_err(|error| in_words(&error)),
            Err(_) => Err("it is not UTF-8".to_owned()),
        };
        match parsed {
            Ok(line) => lines.push((number, line)),
            Err(why) => {
                problems.push(Problem { line: number, id: String::new(), file: String::new(), why });
            }
        }
    }
    Ok((lines, problems))
}

/// What serde says, without its own count of lines, which is always 1 here.
fn in_words(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    format!("column {}: {}", error.column(), told.strip_suffix(&place).unwrap_or(&told))
}

/// What is wrong with ids, captions, attributions and metadata.
fn check_texts(lines: &[(usize, Line)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut first_lines: HashMap<&str, usize> = HashMap::new();
    for (number, line) in lines {
        let first = *first_lines.entry(&line.id).or_insert(*number);
        let unique =
            if first == *number { Ok(()) } else { Err(format!("line {first} has the same id already")) };
        let checked = [
            check_id(&line.id),
            unique,
            check_caption(&line.caption),
            check_attribution(&line.attribution),
            check_metadata(&line.metadata),
        ];
        problems.extend(checked.into_iter().filter_map(Result::err).map(|why| Problem {
            line: *number,
            id: line.id.clone(),
            file: String::new(),
            why,
        }));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        parse(text.as_bytes()).unwrap().0.into_iter().map(|(number, line)| (number, line.id)).collect()
    }

    #[test]
    fn lists_of_every_editor_are_read() {
        let line = |id: &str| format!(r#"{{"id": "{id}", "caption": "c", "image": "i.png"}}"#);
        let expected = vec![(1, "a".to_owned()), (3, "b".to_owned())];
        assert_eq!(lines(&format!("{}\n\n{}", line("a"), line("b"))), expected);
        assert_eq!(lines(&format!("\u{feff}{}\r\n \r\n{}\r\n", line("a"), line("b"))), expected);
        let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(parse(&utf16).unwrap_err().contains("save it as UTF-8"));
    }

    #[test]
    fn a_line_that_is_none_is_told_by_number_and_column() {
        let text = b"{\"id\": \"a\", \"caption\": \"c\", \"image\": \"i\"}\n{\"id\": 5}\nnonsense\n\xff\n{\"id\": \"b\", \"captoin\": 1}";
        let (lines, problems) = parse(text).unwrap();
        assert_eq!(lines.len(), 1);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(
            told[0].starts_with("line 2: column 8: invalid type: integer `5`, expected a string"),
            "{told:?}"
        );
        assert!(told[1].starts_with("line 3: column") && !told[1].contains("at line 1"), "{told:?}");
        assert_eq!(told[2], "line 4: it is not UTF-8");
        assert!(told[3].contains("unknown field `captoin`"), "{told:?}");
    }

    #[test]
    fn texts_are_checked_and_twins_named() {
        let line = |id: &str, caption: &str| Line {
            id: id.to_owned(),
            caption: caption.to_owned(),
            image: String::new(),
            attribution: String::new(),
            metadata: Metadata::new(),
        };
        let lines = [(1, line("a", "a fox")), (2, line("b", " ")), (5, line("a", "a\u{0}hen"))];
        let told: Vec<String> = check_texts(&lines).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("line 2, \"b\": caption must not be empty"), "{told:?}");
        assert_eq!(told[1], "line 5, \"a\": line 1 has the same id already");
        assert!(told[2].contains("control character"), "{told:?}");
    }
}
