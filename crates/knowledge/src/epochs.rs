//! The epochs of a knowledge base, one after another. The first is `manifest.json`; each later one is a file of its own, which only
//! one writer can create: whoever comes second with the same number learns so, and writes the next one instead.

use std::time::SystemTime;

use reverie_storage::{FileDigest, Folder, Listed, StorageError};

use crate::epoch::{MANIFEST, MAX_MANIFEST_BYTES, Manifest, SEGMENTS};

/// The folder of the later ones.
const EPOCHS: &str = "epochs";
/// How many of the latest are tried where the latest is damaged.
const TRIED: usize = 8;

/// The epochs of the knowledge base in a folder; cheap to clone.
#[derive(Debug, Clone)]
pub struct Epochs {
    folder: Folder,
}

impl Epochs {
    /// Those in `folder`.
    pub fn new(folder: Folder) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Reads the manifest of one of the later epochs.
    pub async fn read(&self, number: u64) -> Result<Manifest, StorageError> {
        Ok(self.read_file(number).await?.0)
    }

    /// The same, and its file.
    async fn read_file(&self, number: u64) -> Result<(Manifest, FileDigest), StorageError> {
        let (manifest, file) = Manifest::read_file(&self.folder, &path(number)).await?;
        if manifest.epoch == number {
            return Ok((manifest, file));
        }
        let why = format!("it is epoch {}", manifest.epoch);
        Err(StorageError::content(self.folder.describe(&file.path), why))
    }

    /// Reads the manifest of the latest epoch.
    pub async fn latest(&self) -> Result<Manifest, StorageError> {
        Ok(self.latest_file().await?.0)
    }

    /// The same, and its file.
    pub(crate) async fn latest_file(&self) -> Result<(Manifest, FileDigest), StorageError> {
        match self.numbers_if_allowed().await?.last() {
            Some(&number) => self.read_file(number).await,
            None => Manifest::read_file(&self.folder, MANIFEST).await,
        }
    }

    /// Reads the manifests of the latest epochs, the latest first: there is an older one where the latest is damaged.
    pub async fn newest_first(&self) -> Result<Vec<Result<Manifest, StorageError>>, StorageError> {
        let mut manifests = Vec::new();
        for number in self.numbers_if_allowed().await?.into_iter().rev().take(TRIED) {
            manifests.push(self.read(number).await);
        }
        if manifests.len() < TRIED {
            manifests.push(Manifest::read(&self.folder).await);
        }
        Ok(manifests)
    }

    /// The numbers of the later epochs; none where files may be read and not listed, as in some buckets, which have one epoch then.
    async fn numbers_if_allowed(&self) -> Result<Vec<u64>, StorageError> {
        match self.numbers(None).await {
            Err(StorageError::Denied { file, .. }) => {
                tracing::warn!(file, "there is no right to list later epochs: the first one is read");
                Ok(Vec::new())
            }
            numbers => numbers,
        }
    }

    /// The numbers of the later epochs, in ascending order; of those after `number`, if it is given.
    pub async fn numbers(&self, after: Option<u64>) -> Result<Vec<u64>, StorageError> {
        Ok(self.list_after(after).await?.into_iter().map(|(number, _)| number).collect())
    }

    /// The numbers of the later epochs, in ascending order, and when each was written.
    pub async fn list(&self) -> Result<Vec<(u64, SystemTime)>, StorageError> {
        self.list_after(None).await
    }

    /// All files of segments, whether or not an epoch lists them.
    pub async fn segment_files(&self) -> Result<Vec<Listed>, StorageError> {
        self.folder.list(SEGMENTS, None).await
    }

    async fn list_after(&self, after: Option<u64>) -> Result<Vec<(u64, SystemTime)>, StorageError> {
        if self.folder.is_only_read() {
            return Ok(Vec::new());
        }
        let after_path = after.map(path);
        let listed = self.folder.list(EPOCHS, after_path.as_deref()).await?;
        let numbered = listed.iter().filter_map(|file| Some((number(&file.path)?, file.written)));
        let mut numbered: Vec<_> =
            numbered.filter(|(number, _)| after.is_none_or(|after| *number > after)).collect();
        numbered.sort_unstable();
        Ok(numbered)
    }

    /// Makes `manifest` the epoch that its number says, unless another one has that number. Says whether it did. A manifest must say
    /// something that no other writer says at the same time, such as the name of a new file.
    ///
    /// # Errors
    /// What it came to is not known then: it is there or not.
    pub async fn commit(&self, manifest: &Manifest) -> Result<bool, StorageError> {
        let path = path(manifest.epoch);
        let wrong = |why: String| StorageError::content(self.folder.describe(&path), why);
        manifest.check().map_err(wrong)?;
        let bytes = manifest.to_bytes().map_err(|error| wrong(error.to_string()))?;
        match self.folder.create(&path, bytes.clone()).await {
            Ok(()) => Ok(true),
            // Perhaps by this very call, whose first answer was lost.
            Err(StorageError::AlreadyExists { .. }) => {
                Ok(self.folder.read(&path, MAX_MANIFEST_BYTES).await? == bytes)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the manifest of one of the later epochs. What it alone lists is not removed.
    pub async fn remove(&self, number: u64) -> Result<(), StorageError> {
        self.folder.remove(&path(number)).await
    }

    /// The path of the manifest of an epoch, as an operator finds it.
    pub fn describe(&self, epoch: u64) -> String {
        if epoch <= 1 { self.folder.describe(MANIFEST) } else { self.folder.describe(&path(epoch)) }
    }
}

fn path(number: u64) -> String {
    format!("{EPOCHS}/{number:012}.json")
}

fn number(path: &str) -> Option<u64> {
    path.strip_prefix(EPOCHS)?.strip_prefix('/')?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::epoch::{VectorKind, write_empty};

    async fn empty() -> (tempfile::TempDir, Epochs) {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path().to_str().unwrap()).unwrap();
        write_empty(&folder, "creatures".to_owned(), String::new(), 4, VectorKind::F32, "a".repeat(64))
            .await
            .unwrap();
        (directory, Epochs::new(folder))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_writers_one_wins_each_number() {
        const WRITERS: u64 = 8;
        const COMMITS: usize = 12;
        let (_directory, epochs) = empty().await;
        let write = |writer: u64| {
            let epochs = epochs.clone();
            tokio::spawn(async move {
                let mut won = Vec::new();
                while won.len() < COMMITS {
                    let latest = epochs.latest().await.unwrap();
                    let description = format!("{}{writer} ", latest.description);
                    let next = Manifest { epoch: latest.epoch + 1, description, ..latest };
                    if epochs.commit(&next).await.unwrap() {
                        won.push(next.epoch);
                    }
                }
                won
            })
        };
        let mut won = Vec::new();
        for writer in (0..WRITERS).map(write).collect::<Vec<_>>() {
            won.extend(writer.await.unwrap());
        }
        won.sort_unstable();
        let total = WRITERS * COMMITS as u64;
        assert_eq!(won, (2..2 + total).collect::<Vec<_>>());
        let latest = epochs.latest().await.unwrap();
        assert_eq!((latest.epoch, latest.description.split_whitespace().count() as u64), (1 + total, total));
    }

    #[tokio::test]
    async fn a_number_is_taken_once_and_knows_its_writer() {
        let (_directory, epochs) = empty().await;
        let first = epochs.latest().await.unwrap();
        let next = Manifest { epoch: 2, description: "mine".to_owned(), ..first.clone() };
        assert!(epochs.commit(&next).await.unwrap());
        assert!(epochs.commit(&next).await.unwrap(), "an answer may be lost");
        let other = Manifest { description: "theirs".to_owned(), ..next.clone() };
        assert!(!epochs.commit(&other).await.unwrap());
        assert_eq!(epochs.latest().await.unwrap(), next);
        assert_eq!(epochs.numbers(Some(1)).await.unwrap(), [2]);
        assert!(epochs.numbers(Some(2)).await.unwrap().is_empty());
        // A file under another number than its own.
        let bytes = next.to_bytes().unwrap();
        epochs.folder().create("epochs/000000000003.json", bytes).await.unwrap();
        epochs.folder().create("epochs/notes.txt", Bytes::from_static(b"not one")).await.unwrap();
        assert!(epochs.latest().await.unwrap_err().to_string().contains("it is epoch 2"));
    }
}
