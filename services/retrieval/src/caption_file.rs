//! `captions.index`: what is worked out of the captions of a segment, so that a start does not do it again. It says nothing that the
//! captions do not say, so a reader that would work out something else passes it over and reads them.
//!
//! A line of JSON, the [`Header`]; the files of the index one after another; the different words, a line each; and for each caption the
//! number of its words and the words, 32-bit integers, little-endian, by twice their place among the different ones, plus one if the word is
//! common in this caption.

use std::io::{Cursor, Read as _};
use std::iter;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tantivy::TantivyError;

use crate::bm25;
use crate::subjects::Tokens;
use crate::words;

/// Version of this format.
const FORMAT: u32 = 1;
/// Fewer captions are indexed in the time that it takes to fetch a file.
const FEWEST: usize = 1000;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    /// [`words::VERSION`].
    words: u32,
    /// Name and size of each file of the index.
    files: Vec<(String, usize)>,
    /// Bytes of the different words.
    word_bytes: usize,
}

/// Why the file of captions cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptionFileError {
    #[error(transparent)]
    Index(#[from] TantivyError),
    #[error("{0}")]
    Content(String),
}

/// The file of these captions; none if there are so few that it is not worth while. Blocking.
pub fn index_captions<'a>(
    captions: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> Result<Option<Bytes>, TantivyError> {
    if captions.len() < FEWEST {
        return Ok(None);
    }
    let files = bm25::Part::files(captions.clone())?;
    let tokens = Tokens::read(captions);
    let different = tokens.words().join("\n");
    let header = Header {
        format: FORMAT,
        words: words::VERSION,
        files: files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect(),
        word_bytes: different.len(),
    };
    let mut file =
        serde_json::to_vec(&header).map_err(|error| TantivyError::SystemError(error.to_string()))?;
    file.push(b'\n');
    for (_, bytes) in &files {
        file.extend(bytes);
    }
    file.extend(different.as_bytes());
    for caption in tokens.captions() {
        let words = caption.iter().map(|&(word, is_common)| 2 * word + u32::from(is_common));
        file.extend(iter::once(caption.len() as u32).chain(words).flat_map(u32::to_le_bytes));
    }
    Ok(Some(file.into()))
}

/// What the file has of so many captions; none if this version would work out something else. Blocking.
pub(crate) fn read(file: &[u8], captions: u64) -> Result<Option<(bm25::Part, Tokens)>, CaptionFileError> {
    let wrong = |why: &str| CaptionFileError::Content(why.to_owned());
    let end = file.iter().position(|&byte| byte == b'\n').ok_or_else(|| wrong("it has no header"))?;
    let header: Header =
        serde_json::from_slice(&file[..end]).map_err(|error| CaptionFileError::Content(error.to_string()))?;
    if (header.format, header.words) != (FORMAT, words::VERSION) {
        return Ok(None);
    }
    let mut rest = &file[end + 1..];
    let mut take = |size: usize| rest.split_off(..size).ok_or_else(|| wrong("it ends too early"));
    let mut files = Vec::new();
    for (name, size) in header.files {
        files.push((name, take(size)?));
    }
    let different = str::from_utf8(take(header.word_bytes)?).map_err(|_| wrong("its words are not UTF-8"))?;
    let different: Vec<String> = different.lines().map(str::to_owned).collect();
    let mut numbers = Cursor::new(rest);
    let mut number = || {
        let mut bytes = [0; 4];
        numbers.read_exact(&mut bytes).map_err(|_| wrong("it ends too early"))?;
        Ok::<u32, CaptionFileError>(u32::from_le_bytes(bytes))
    };
    let mut of_captions: Vec<Box<[(u32, bool)]>> = Vec::new();
    for _ in 0..captions {
        let mut of_caption = Vec::new();
        for _ in 0..number()? {
            let word = number()?;
            if (word / 2) as usize >= different.len() {
                return Err(wrong("a caption has a word that is not there"));
            }
            of_caption.push((word / 2, word % 2 == 1));
        }
        of_captions.push(of_caption.into());
    }
    let Some(part) = bm25::Part::of_files(&files)? else { return Ok(None) };
    if part.captions() != captions || numbers.position() != numbers.get_ref().len() as u64 {
        return Err(wrong("it is of other captions"));
    }
    Ok(Some((part, Tokens::new(different, of_captions))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captions(count: usize) -> Vec<String> {
        let words = ["zunin", "leka", "赤い猫", "meadow", "snow", "the", "Straße"];
        let word = |place: usize| words[place % words.len()];
        (0..count).map(|at| format!("a {} in the {} number{at}", word(at), word(at / 7 + 3))).collect()
    }

    fn file(captions: &[String]) -> Bytes {
        index_captions(captions.iter().map(String::as_str)).unwrap().unwrap()
    }

    #[test]
    fn what_is_read_is_what_was_worked_out() {
        let captions = captions(1500);
        let bytes = file(&captions);
        assert!(bytes == file(&captions), "the same captions, the same file");
        let (part, tokens) = read(&bytes, 1500).unwrap().unwrap();
        let worked_out = Tokens::read(captions.iter().map(String::as_str));
        assert_eq!((tokens.words(), tokens.captions()), (worked_out.words(), worked_out.captions()));
        let anew = bm25::Part::index(captions.iter().map(String::as_str)).unwrap();
        let [read, anew] =
            [part, anew].map(|part| bm25::Captions::new(vec![(0, part.into())], Vec::new(), None));
        for text in ["a zunin", "猫 in the snow", "number77", "strasse", "nothing"] {
            let found = read.search(text, 40, &None).unwrap();
            assert_eq!(found, anew.search(text, 40, &None).unwrap(), "{text}");
        }
        assert_eq!(read.search("number77", 9, &None).unwrap()[0].key, 77);
    }

    #[test]
    fn few_captions_need_no_file() {
        assert!(index_captions(captions(999).iter().map(String::as_str)).unwrap().is_none());
    }

    #[test]
    fn a_file_of_another_version_is_passed_over_and_a_torn_one_refused() {
        let bytes = file(&captions(1000));
        let header = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        let text = str::from_utf8(&bytes[..header]).unwrap();
        for version in [r#""format":1"#, &format!(r#""words":{}"#, words::VERSION)] {
            assert!(text.contains(version), "{text}");
            let other = text.replace(version, &format!("{version}00"));
            assert!(read(&[other.as_bytes(), &bytes[header..]].concat(), 1000).unwrap().is_none());
        }
        for cut in [0, header, header + 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(read(&bytes[..cut], 1000).is_err(), "{cut}");
        }
        for captions in [999, 1001] {
            assert!(read(&bytes, captions).is_err());
        }
        assert!(read(&[&bytes[..], b"more"].concat(), 1000).is_err());
    }
}
