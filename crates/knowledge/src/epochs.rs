//! The epochs of a knowledge base, one after another. The first is `manifest.json`; each later one is a file of its own, which only
//! one writer can create: whoever comes second with the same number learns so, and writes the next one instead.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::SystemTime;

use reverie_storage::{FileDigest, Folder, Listed, StorageError};

use crate::epoch::{MANIFEST, MAX_MANIFEST_BYTES, Manifest, SEGMENTS, Segment};

/// The folder of the later ones.
const EPOCHS: &str = "epochs";

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
        match self.numbers_if_allowed().await?.unwrap_or_default().last() {
            Some(&number) => self.read_file(number).await,
            None => Manifest::read_file(&self.folder, MANIFEST).await,
        }
    }

    /// Reads the manifest of the epoch of that number, be it the first one.
    pub(crate) async fn find(&self, number: u64) -> Result<Manifest, StorageError> {
        match self.read(number).await {
            Err(StorageError::NotFound { file }) => {
                let first = Manifest::read(&self.folder).await?;
                if first.epoch == number { Ok(first) } else { Err(StorageError::NotFound { file }) }
            }
            read => read,
        }
    }

    /// The numbers of the later epochs; none if there is no right to list files, as in some buckets: only the first epoch is known then.
    pub(crate) async fn numbers_if_allowed(&self) -> Result<Option<Vec<u64>>, StorageError> {
        match self.numbers(None).await {
            Err(StorageError::Denied { file, .. }) => {
                tracing::warn!(file, "there is no right to list later epochs: the first one is read");
                Ok(None)
            }
            numbers => numbers.map(Some),
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

    /// The names of all segments of which there are files, whether or not an epoch lists them.
    pub async fn segments(&self) -> Result<Vec<String>, StorageError> {
        self.folder.folders(SEGMENTS).await
    }

    /// Removes all files of a segment.
    pub async fn remove_segment(&self, name: &str) -> Result<(), StorageError> {
        self.folder.remove_folder(&Segment::folder(name)).await
    }

    /// Removes what the latest epoch says is void, files that say of such an epoch which entries were deleted, and what writers left half
    /// written before `then`. The first epoch's manifest, if it is older, becomes that of the latest one, for readers that may not list
    /// files. Says how many segments it removed.
    pub async fn sweep(&self, then: SystemTime) -> Result<usize, StorageError> {
        let now = self.latest().await?;
        if now.oldest == 0 {
            return Ok(0);
        }
        let oldest = match self.find(now.oldest).await {
            Ok(oldest) => Some(oldest),
            // In a folder that was published later.
            Err(StorageError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let first = Manifest::read_file(&self.folder, MANIFEST).await;
        if first.as_ref().is_ok_and(|(first, _)| first.epoch < now.oldest) {
            let bytes = now.to_bytes().map_err(|error| self.wrong(MANIFEST, &error))?;
            self.folder.replace(MANIFEST, bytes).await?;
        }
        let listed: Vec<&Segment> = oldest.iter().chain([&now]).flat_map(Manifest::all_segments).collect();
        let names: HashSet<&str> = listed.iter().map(|segment| segment.name.as_str()).collect();
        let mut removed = 0;
        for name in self.segments().await? {
            if !names.contains(name.as_str()) && now.is_void(&name) {
                self.remove_segment(&name).await?;
                removed += 1;
            }
        }
        let paths: HashSet<&str> =
            listed.iter().flat_map(|segment| segment.all_files()).map(|file| file.path.as_str()).collect();
        for Listed { path, .. } in self.folder.list(SEGMENTS, None).await? {
            let is_void = Segment::deleted_with(&path).is_some_and(|epoch| epoch <= now.oldest);
            if is_void && !paths.contains(path.as_str()) {
                self.folder.remove(&path).await?;
            }
        }
        self.folder.remove_half_written(SEGMENTS, then).await?;
        self.folder.remove_half_written(EPOCHS, then).await?;
        Ok(removed)
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

    /// Makes `manifest` the epoch that its number says, unless another one has that number. Says whether it did. Of two writers that
    /// say the same at the same time, both did.
    ///
    /// # Errors
    /// What it came to is not known then: it is there or not.
    pub async fn commit(&self, manifest: &Manifest) -> Result<bool, StorageError> {
        let file = path(manifest.epoch);
        manifest.check().map_err(|why| self.wrong(&file, &why))?;
        let bytes = manifest.to_bytes().map_err(|error| self.wrong(&file, &error))?;
        match self.folder.create(&file, bytes.clone()).await {
            Ok(()) => {}
            // Perhaps by this very call, whose first answer was lost.
            Err(StorageError::AlreadyExists { .. }) => {
                if self.folder.read(&file, MAX_MANIFEST_BYTES).await? != bytes {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
        // The number may have been free again, for a writer that slept for long. Epochs are removed in order, and only such as are older
        // than the oldest: so it was not if the one before is there, or if this one is not that old.
        let is_first = self.folder.size(&path(manifest.epoch - 1)).await?.is_some()
            || self.latest().await?.oldest <= manifest.epoch;
        let late = "it was written too late: it is among those that are removed";
        if is_first { Ok(true) } else { Err(self.wrong(&file, &late)) }
    }

    fn wrong(&self, file: &str, why: &dyn Display) -> StorageError {
        StorageError::content(self.folder.describe(file), why.to_string())
    }

    /// Removes the manifest of one of the later epochs, of which those before must be removed already. What it alone lists is not
    /// removed.
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
    #[tokio::test]
    async fn a_writer_that_slept_takes_no_number_that_is_free_again() {
        let (_directory, epochs) = empty().await;
        let first = epochs.latest().await.unwrap();
        let next =
            |epoch, oldest| Manifest { epoch, oldest, description: format!("{epoch}"), ..first.clone() };
        for epoch in 2..6 {
            assert!(epochs.commit(&next(epoch, 0)).await.unwrap());
        }
        assert!(epochs.commit(&next(6, 6)).await.unwrap());
        for epoch in 2..6 {
            epochs.remove(epoch).await.unwrap();
        }
        for late in 2..6 {
            let error = epochs.commit(&next(late, 0)).await.unwrap_err().to_string();
            assert!(error.contains("too late"), "{late}: {error}");
            epochs.remove(late).await.unwrap();
        }
        assert!(epochs.commit(&next(7, 6)).await.unwrap());
        assert_eq!(epochs.latest().await.unwrap().epoch, 7);
    }
}
