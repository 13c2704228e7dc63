//! Files of a folder that somebody else may have made: no path leads out of it, and nothing is read that is not a plain file
//! of a reasonable size.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use reverie_imaging::pictures::MAX_ENCODED_BYTES;
use reverie_imaging::{Encoded, pool};
use reverie_proto::tensor::v1::Image;
use reverie_storage::sha256_hex;
use tempfile::TempPath;

/// Largest list of entries that is read, bytes.
const MAX_LIST_BYTES: u64 = 4 << 30;

/// A folder whose files are read.
#[derive(Debug, Clone)]
pub(super) struct PictureFolder {
    /// Canonical: what lies above it is the caller's business and may contain links.
    root: PathBuf,
    /// The tar files that pictures lie in.
    shards: Arc<[PathBuf]>,
    /// A temporary file, which is one of them; it is removed with the last of these.
    _unpacked: Option<Arc<TempPath>>,
}

/// Where a picture is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PictureFile {
    /// Its path within the folder; with a span, its name for people.
    pub(super) name: String,
    /// Its place in a tar file, or in one that was unpacked, if it is in one.
    pub(super) span: Option<Span>,
}

/// A part of a tar file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Number of the tar file.
    pub(super) shard: usize,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl PictureFile {
    /// The file of that path.
    pub(super) fn named(name: String) -> Self {
        Self { name, span: None }
    }
}

/// A caption as it is written in a file.
pub(super) fn as_text(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(text.trim_start_matches('\u{feff}').trim().to_owned())
}

/// A picture that was read and decoded: what is kept of it.
#[derive(Debug)]
pub(super) struct Picture {
    /// SHA-256 of the file.
    pub(super) digest: String,
    pub(super) bytes: usize,
    pub(super) pixels: u64,
}

impl PictureFolder {
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let told = |why: String| format!("{}: {why}", folder.display());
        let root = folder.canonicalize().map_err(|error| told(in_words(&error)))?;
        if root.is_dir() {
            Ok(Self { root, shards: Arc::default(), _unpacked: None })
        } else {
            Err(told("it is not a folder".to_owned()))
        }
    }

    /// With pictures in these tar files.
    pub(super) fn with_shards(self, shards: Vec<PathBuf>) -> Self {
        Self { shards: shards.into(), ..self }
    }

    /// With pictures in this temporary file.
    pub(super) fn with_unpacked(self, unpacked: TempPath) -> Self {
        let shards = [unpacked.to_path_buf()].into();
        Self { shards, _unpacked: Some(Arc::new(unpacked)), ..self }
    }

    #[cfg(test)]
    pub(super) fn shards(&self) -> &[PathBuf] {
        &self.shards
    }

    /// Reads a caption. Blocks.
    pub(super) fn text(&self, path: &str, max_bytes: u64) -> Result<String, String> {
        as_text(self.read(path, max_bytes)?)
    }

    /// Reads a list of entries. Blocks.
    pub(super) fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        self.read(path, MAX_LIST_BYTES)
    }

    /// Reads and decodes a picture: what cannot be decoded here cannot be embedded, nor drawn with.
    pub(super) async fn picture(&self, file: &PictureFile) -> Result<Picture, String> {
        let (image, digest) = self.image(file).await?;
        let bytes = image.len();
        let message = Image { data: image, ..Image::default() };
        let image = Encoded::read(&message).map_err(|error| error.to_string())?;
        let pixels = image.size().pixels();
        pool::decode(image, |_| ()).await.map_err(|error| error.to_string())?;
        Ok(Picture { digest, bytes, pixels })
    }

    /// Reads a picture again, which must be the one that was checked.
    pub(super) async fn again(&self, file: &PictureFile, digest: &str) -> Result<Bytes, String> {
        let (image, found) = self.image(file).await?;
        if found == digest {
            Ok(image)
        } else {
            Err("the file has changed since it was checked; start the build again".to_owned())
        }
    }

    /// The bytes of a picture, and their SHA-256.
    async fn image(&self, file: &PictureFile) -> Result<(Bytes, String), String> {
        let (folder, file) = (self.clone(), file.clone());
        let read = move || {
            let image = match file.span {
                Some(span) => folder.read_span(span, MAX_ENCODED_BYTES as u64)?,
                None => folder.read(&file.name, MAX_ENCODED_BYTES as u64)?,
            };
            let image = Bytes::from(image);
            let digest = sha256_hex(&image);
            Ok((image, digest))
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
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

    fn read_span(&self, span: Span, max_bytes: u64) -> Result<Vec<u8>, String> {
        if span.bytes > max_bytes {
            return Err(format!("it has {} bytes, at most {max_bytes} are taken", span.bytes));
        }
        let shard = self.shards.get(span.shard).ok_or("there is no such tar file")?;
        let mut bytes = vec![0; span.bytes as usize];
        let read = File::open(shard).and_then(|mut file| {
            file.seek(SeekFrom::Start(span.offset))?;
            file.read_exact(&mut bytes)
        });
        read.map_err(|error| in_words(&error))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_picture_that_changes_during_a_build_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image::RgbImage::new(5, 3).save(&path).unwrap();
        let files = PictureFolder::open(folder.path()).unwrap();
        let file = PictureFile::named("a.png".to_owned());
        let Picture { digest, bytes, pixels } = files.picture(&file).await.unwrap();
        let image = files.again(&file, &digest).await.unwrap();
        assert_eq!((image.len(), pixels, sha256_hex(&image)), (bytes, 15, digest.clone()));
        image::RgbImage::new(3, 5).save(&path).unwrap();
        let told = files.again(&file, &digest).await.unwrap_err();
        assert!(told.contains("changed since it was checked"), "{told}");
    }
}
