//! An exported pipeline on disk, as far as it is trusted: not at all.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::ImportError;

const MAX_JSON_BYTES: u64 = 64 << 20;
/// A protocol buffer has no more.
const MAX_GRAPH_BYTES: u64 = 2 << 30;

/// What the folder of a pipeline is known by.
const INDEX: &str = "model_index.json";
/// A folder that repositories have their ONNX files in, beside the weights of other runtimes.
pub(crate) const ONNX: &str = "onnx";

/// The folder of a pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    root: PathBuf,
    /// What links may lead to: the folder, or the whole repository in a cache of Hugging Face, where the files of a snapshot are
    /// links to its blobs.
    bounds: PathBuf,
}

impl Source {
    pub(crate) fn open(root: &Path) -> Result<Self, ImportError> {
        let found = fs::metadata(root).map_err(|error| match error.kind() {
            ErrorKind::NotFound => ImportError::wrong(root, "there is no such folder"),
            _ => ImportError::access(root)(error),
        })?;
        if !found.is_dir() {
            return Err(ImportError::wrong(root, "is no folder"));
        }
        let root = snapshot(root).unwrap_or_else(|| root.to_owned());
        let in_onnx = root.join(ONNX);
        let root = if !root.join(INDEX).exists() && in_onnx.join(INDEX).exists() { in_onnx } else { root };
        let canonical = root.canonicalize().map_err(ImportError::access(&root))?;
        let bounds = repository(&canonical).unwrap_or(&canonical).to_owned();
        Ok(Self { root, bounds })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder's own name; of a repository in a cache its name there, without that of its owner.
    pub(crate) fn name(&self) -> String {
        let absolute = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let repository = repository(&absolute).and_then(Path::file_name).map(|name| name.to_string_lossy());
        if let Some(name) = repository.as_deref().and_then(|name| name.rsplit("--").next()) {
            return name.to_owned();
        }
        absolute.file_name().map_or_else(|| "imported".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Whether there is a folder or file of this name.
    pub(crate) fn has(&self, relative: &str) -> bool {
        fs::symlink_metadata(self.root.join(relative)).is_ok()
    }

    /// The path of a file, after looking that no link on the way leads out of the folder.
    pub(crate) fn file(&self, relative: &str, why: &str) -> Result<PathBuf, ImportError> {
        let path = self.path(relative, why)?;
        if path.is_file() { Ok(path) } else { Err(ImportError::wrong(&path, "is no file")) }
    }

    /// The names of the files in a folder, sorted; none if there is no such folder.
    pub(crate) fn files(&self, relative: &str) -> Result<Vec<String>, ImportError> {
        if !self.has(relative) {
            return Ok(Vec::new());
        }
        let path = self.path(relative, "")?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(ImportError::access(&path))? {
            let entry = entry.map_err(ImportError::access(&path))?;
            if let Ok(name) = entry.file_name().into_string()
                && entry.path().is_file()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn path(&self, relative: &str, why: &str) -> Result<PathBuf, ImportError> {
        let mut path = self.root.clone();
        for part in Path::new(relative).components() {
            let Component::Normal(part) = part else {
                return Err(ImportError::Outside { path: self.root.clone(), named: relative.to_owned() });
            };
            path.push(part);
            let found = fs::symlink_metadata(&path).map_err(|error| missing(&path, why, error))?;
            if found.is_symlink() {
                let target =
                    path.canonicalize().map_err(|error| missing(&path, "it is a link to nowhere", error))?;
                if !target.starts_with(&self.bounds) {
                    return Err(ImportError::Link { path, bounds: self.bounds.clone() });
                }
            }
        }
        Ok(path)
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

/// The repository that a snapshot in a cache of Hugging Face belongs to: `models--OWNER--NAME/snapshots/REVISION`.
fn repository(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|above| {
        let is_repository =
            above.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"));
        is_repository && folder.strip_prefix(above).is_ok_and(|below| below.starts_with("snapshots"))
    })
}

/// The snapshot of a repository in a cache of Hugging Face: the one of its main branch, or the only one.
fn snapshot(repository: &Path) -> Option<PathBuf> {
    if repository.join(INDEX).exists() {
        return None;
    }
    let snapshots = repository.join("snapshots");
    if let Ok(revision) = fs::read_to_string(repository.join("refs/main"))
        && is_plain(revision.trim())
        && snapshots.join(revision.trim()).is_dir()
    {
        return Some(snapshots.join(revision.trim()));
    }
    let mut all = fs::read_dir(snapshots).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    all.next().filter(|_| all.next().is_none())
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
    use serde_json::Value;

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

    #[cfg(unix)]
    #[test]
    fn a_cache_of_hugging_face_is_read_and_not_left() {
        use std::os::unix::fs::symlink;

        let place = tempfile::tempdir().unwrap();
        let repository = place.path().join("models--owner--tiny");
        let snapshot = repository.join("snapshots/0123abc");
        fs::create_dir_all(snapshot.join("unet")).unwrap();
        fs::create_dir_all(repository.join("blobs")).unwrap();
        fs::create_dir_all(place.path().join("models--owner--other/blobs")).unwrap();
        fs::write(repository.join("blobs/1"), "{}").unwrap();
        fs::write(place.path().join("models--owner--other/blobs/1"), "{}").unwrap();
        symlink("../../../blobs/1", snapshot.join("unet/config.json")).unwrap();
        symlink("../../../../models--owner--other/blobs/1", snapshot.join("unet/other.json")).unwrap();
        symlink("../../../blobs/2", snapshot.join("unet/nowhere.json")).unwrap();
        for folder in [&repository, &snapshot] {
            let source = Source::open(folder).unwrap();
            assert_eq!(source.name(), "tiny");
            assert!(source.json::<Value>("unet/config.json", "").is_ok());
            assert!(matches!(source.file("unet/other.json", ""), Err(ImportError::Link { .. })));
            assert!(matches!(source.file("unet/nowhere.json", ""), Err(ImportError::Missing { .. })));
            assert_eq!(source.files("unet").unwrap(), ["config.json", "other.json"]);
        }
        // Of two snapshots it is the one of the main branch.
        fs::create_dir_all(repository.join("snapshots/4567def")).unwrap();
        fs::create_dir_all(repository.join("refs")).unwrap();
        fs::write(repository.join("refs/main"), "0123abc\n").unwrap();
        assert!(Source::open(&repository).unwrap().has("unet/config.json"));
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
            std::os::unix::fs::symlink("config.json", folder.join("unet/within.json")).unwrap();
            assert!(source.file("unet/within.json", "").is_ok());
            assert!(matches!(source.file("unet/link", ""), Err(ImportError::Link { .. })));
            assert!(matches!(source.file("vae/secret", ""), Err(ImportError::Link { .. })));
        }
    }
}
