//! Files of a folder that somebody else may have made: no path leads out of it, and nothing is read that is not a plain file
//! of a reasonable size.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use reverie_imaging::pictures::{self, MAX_ENCODED_BYTES};
use reverie_proto::tensor::v1::Image;

/// Largest list of entries that is read, bytes.
const MAX_LIST_BYTES: u64 = 4 << 30;

/// A folder whose files are read.
#[derive(Debug, Clone)]
pub(super) struct PictureFolder {
    /// Canonical: what lies above it is the caller's business and may contain links.
    root: PathBuf,
}

/// A picture that was read and decoded.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) image: Bytes,
    pub(super) pixels: u64,
}

impl PictureFolder {
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let told = |why: String| format!("--pictures {}: {why}", folder.display());
        let root = folder.canonicalize().map_err(|error| told(in_words(&error)))?;
        if root.is_dir() { Ok(Self { root }) } else { Err(told("it is not a folder".to_owned())) }
    }

    /// Reads a list of entries. Blocks.
    pub(super) fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        self.read(path, MAX_LIST_BYTES)
    }

    /// Reads and decodes a picture: what cannot be decoded here cannot be embedded, nor drawn with. Blocks.
    pub(super) fn picture(&self, path: &str) -> Result<Picture, String> {
        let image = Bytes::from(self.read(path, MAX_ENCODED_BYTES as u64)?);
        let message = Image { data: image.clone(), ..Image::default() };
        let decoded = pictures::decode(&message).map_err(|error| error.to_string())?;
        let pixels = u64::from(decoded.width()) * u64::from(decoded.height());
        Ok(Picture { image, pixels })
    }

    fn read(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>, String> {
        let path = self.resolve(path)?;
        let found = path.metadata().map_err(|error| in_words(&error))?;
        // A pipe or a device may never end.
        if !found.is_file() {
            return Err("it is not a file".to_owned());
        }
        let file = File::open(&path).map_err(|error| in_words(&error))?;
        let mut bytes = Vec::new();
        file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|error| in_words(&error))?;
        if bytes.len() as u64 > max_bytes {
            let size = found.len().max(bytes.len() as u64);
            return Err(format!("it has {size} bytes, at most {max_bytes} are taken"));
        }
        Ok(bytes)
    }

    /// Where a path leads, which must be within the folder. Links may be used to get there.
    fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        let relative = Path::new(path);
        let mut parts = relative.components();
        if path.is_empty() || relative.has_root() || parts.any(|part| matches!(part, Component::Prefix(_))) {
            return Err("the path must be relative to the folder".to_owned());
        }
        if relative.components().any(|part| part == Component::ParentDir) {
            return Err("the path must not contain ..".to_owned());
        }
        let path = self.root.join(relative).canonicalize().map_err(|error| in_words(&error))?;
        if path.starts_with(&self.root) {
            Ok(path)
        } else {
            Err(format!(
                "it is a link to {}, which is not in the folder; put the file itself there",
                path.display()
            ))
        }
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        _ => error.to_string(),
    }
}
