//! An exported pipeline on disk, as far as it is trusted: not at all.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::ImportError;

const MAX_JSON_BYTES: u64 = 64 << 20;
/// A protocol buffer has no more.
const MAX_GRAPH_BYTES: u64 = 2 << 30;

/// The folder of a pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    root: PathBuf,
}

impl Source {
    pub(crate) fn open(root: &Path) -> Result<Self, ImportError> {
        let found = fs::metadata(root).map_err(|error| missing(root, "it is the folder to import", error))?;
        if found.is_dir() {
            Ok(Self { root: root.to_owned() })
        } else {
            Err(ImportError::wrong(root, "is no folder"))
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder's own name.
    pub(crate) fn name(&self) -> String {
        let absolute = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        absolute.file_name().map_or_else(|| "imported".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Whether there is a folder or file of this name.
    pub(crate) fn has(&self, relative: &str) -> bool {
        fs::symlink_metadata(self.root.join(relative)).is_ok()
    }

    /// The path of a file, after looking that neither it nor a folder on the way is a link.
    pub(crate) fn file(&self, relative: &str, why: &str) -> Result<PathBuf, ImportError> {
        let mut path = self.root.clone();
        for part in Path::new(relative).components() {
            let Component::Normal(part) = part else {
                return Err(ImportError::Outside { path: self.root.clone(), named: relative.to_owned() });
            };
            path.push(part);
            let found = fs::symlink_metadata(&path).map_err(|error| missing(&path, why, error))?;
            if found.is_symlink() {
                return Err(ImportError::Link { path });
            }
        }
        if path.is_file() { Ok(path) } else { Err(ImportError::wrong(&path, "is no file")) }
    }

    /// Reads a configuration.
    pub(crate) fn json<T: DeserializeOwned>(&self, relative: &str, why: &str) -> Result<T, ImportError> {
        let path = self.file(relative, why)?;
        let text =
            String::from_utf8(read(&path, MAX_JSON_BYTES)?).map_err(|e| ImportError::wrong(&path, e))?;
        serde_json::from_str(&without_infinities(&text)).map_err(|error| ImportError::wrong(&path, error))
    }

    /// Reads a text.
    pub(crate) fn text(&self, relative: &str, why: &str) -> Result<String, ImportError> {
        let path = self.file(relative, why)?;
        String::from_utf8(read(&path, MAX_JSON_BYTES)?).map_err(|error| ImportError::wrong(&path, error))
    }

    /// Reads a graph, without the weights that lie outside of it.
    pub(crate) fn graph(&self, relative: &str, why: &str) -> Result<Vec<u8>, ImportError> {
        read(&self.file(relative, why)?, MAX_GRAPH_BYTES)
    }
}

/// Python writes numbers that JSON does not have: they become null, which is "not set" in configurations.
fn without_infinities(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let number = ["-Infinity", "Infinity", "NaN"].into_iter().find(|number| rest.starts_with(number));
        let taken = match (character, number) {
            ('"', _) => end_of_string(rest),
            (_, Some(number)) => {
                plain.push_str("null");
                rest = &rest[number.len()..];
                continue;
            }
            _ => character.len_utf8(),
        };
        plain.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    plain
}

/// Bytes of the string that `text` begins with, its quotes included.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// Whether `name` is a file of the folder it is named in.
pub(crate) fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_normal = matches!(parts.next(), Some(Component::Normal(part)) if part == name);
    is_normal && parts.next().is_none() && !name.contains(['\\', ':', '\0'])
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, ImportError> {
    let size_bytes = fs::metadata(path).map_err(ImportError::access(path))?.len();
    if size_bytes > max_bytes {
        return Err(ImportError::TooLarge { path: path.to_owned(), size_bytes, max_bytes });
    }
    fs::read(path).map_err(ImportError::access(path))
}

fn missing(path: &Path, why: &str, error: std::io::Error) -> ImportError {
    if error.kind() == ErrorKind::NotFound {
        return ImportError::Missing { path: path.to_owned(), why: why.to_owned() };
    }
    ImportError::access(path)(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_files_are_plain() {
        for name in ["model.onnx_data", "weights.pb", "a b"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", ".", "..", "../w", "/etc/passwd", "a/b", "a/", "./a", "..\\w", "C:w", "a\0"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn numbers_of_python_are_not_set() {
        let text = r#"{"a": -Infinity, "b": "NaN \" Infinity", "c": [NaN, 1], "ü\\": Infinity}"#;
        let expected = r#"{"a": null, "b": "NaN \" Infinity", "c": [null, 1], "ü\\": null}"#;
        assert_eq!(without_infinities(text), expected);
        for broken in ["\"", "\"\\", "{\"a", "-Inf"] {
            assert_eq!(without_infinities(broken), broken);
        }
    }

    #[test]
    fn what_leads_out_of_the_folder_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("pipeline");
        fs::create_dir_all(folder.join("unet")).unwrap();
        fs::write(place.path().join("secret"), "secret").unwrap();
        fs::write(folder.join("unet/config.json"), "{}").unwrap();
        let source = Source::open(&folder).unwrap();
        assert!(source.file("unet/config.json", "").is_ok());
        assert!(matches!(source.file("../secret", ""), Err(ImportError::Outside { .. })));
        assert!(matches!(source.file("unet/none.json", ""), Err(ImportError::Missing { .. })));
        assert!(matches!(source.file("unet", ""), Err(ImportError::Wrong { .. })));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(place.path().join("secret"), folder.join("unet/link")).unwrap();
            std::os::unix::fs::symlink(place.path(), folder.join("vae")).unwrap();
            assert!(matches!(source.file("unet/link", ""), Err(ImportError::Link { .. })));
            assert!(matches!(source.file("vae/secret", ""), Err(ImportError::Link { .. })));
        }
    }
}
