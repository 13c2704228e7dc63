//! The epochs of a knowledge base, one after another. The first is `manifest.json`; each later one is a file of its own, which only
//! one writer can create: whoever comes second with the same number learns so, and writes the next one instead.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::SystemTime;

use reverie_storage::{FileDigest, Folder, Listed, StorageError};

use crate::epoch::{MANIFEST, MAX_MANIFEST_BYTES, Manifest, SEGMENTS, Segment};

/// The folder of the later ones.
const EPOCHS: &str = "epochs";

/// What came of an attempt to store an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// It is stored.
    Stored,
    /// Another one has its number.
    Taken,
    /// Its number is among those that are not needed any more.
    TooLate,
}

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
        match self.numbers(None).await?.last() {
            Some(&number) => self.read_file(number).await,
            None => Manifest::read_file(&self.folder, MANIFEST).await,
        }
    }

    /// Whether files can be listed. Some buckets and all web servers only let files be read whose names are known.
    pub(crate) async fn may_list(&self) -> Result<bool, StorageError> {
        match self.numbers(Some(u64::MAX - 1)).await {
            Ok(_) => Ok(!self.folder.is_only_read()),
            Err(StorageError::Denied { file, .. }) => {
                tracing::warn!(
                    file,
                    "there is no right to list files: epochs are looked for by their numbers"
                );
                Ok(false)
            }
            Err(error) => Err(error),
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
        self.renew_first(&now).await?;
        let oldest = match self.find(now.oldest).await {
            Ok(oldest) => Some(oldest),
            // In a folder that was published later.
            Err(StorageError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
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

    /// Makes `manifest.json`, if it is not needed any more, that of the latest epoch.
    async fn renew_first(&self, latest: &Manifest) -> Result<(), StorageError> {
        let mut latest = latest.clone();
        // Somebody else may do it at the same time, with a later one: whoever is last looks again.
        while Manifest::read(&self.folder).await.is_ok_and(|first| first.epoch < latest.oldest) {
            let bytes = latest.to_bytes().map_err(|error| self.wrong(MANIFEST, &error))?;
            self.folder.replace(MANIFEST, bytes).await?;
            latest = self.latest().await?;
        }
        Ok(())
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

    /// Makes `manifest` the epoch that its number says, which comes after `before`. Of two writers that say the same at the same time,
    /// both did.
    ///
    /// # Errors
    /// What it came to is not known then: it is there or not.
    pub async fn commit(&self, manifest: &Manifest, before: &Manifest) -> Result<Commit, StorageError> {
        let file = path(manifest.epoch);
        manifest.check().map_err(|why| self.wrong(&file, &why))?;
        let bytes = manifest.to_bytes().map_err(|error| self.wrong(&file, &error))?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            let why = format!("it would have {} bytes, more than {MAX_MANIFEST_BYTES}", bytes.len());
            return Err(self.wrong(&file, &why));
        }
        match self.folder.create(&file, bytes.clone()).await {
            Ok(()) => {}
            // Perhaps by this very call, whose first answer was lost.
            Err(StorageError::AlreadyExists { .. }) => {
                if self.folder.read(&file, MAX_MANIFEST_BYTES).await? != bytes {
                    return Ok(Commit::Taken);
                }
            }
            Err(error) => return Err(error),
        }
        // The number may have been free again, for a writer that slept for long. Epochs are removed in order, and only such as are older
        // than the oldest: so it was not if the one before is still there, or if this one is not that old.
        if self.is_there(before).await {
            return Ok(Commit::Stored);
        }
        let oldest = match self.numbers(Some(manifest.epoch)).await?.last() {
            Some(&latest) => self.read(latest).await?.oldest,
            None => 0,
        };
        if oldest <= manifest.epoch {
            return Ok(Commit::Stored);
        }
        self.remove(manifest.epoch).await?;
        Ok(Commit::TooLate)
    }

    /// Whether an epoch that was read is there as it was.
    pub async fn is_there(&self, manifest: &Manifest) -> bool {
        self.find(manifest.epoch).await.is_ok_and(|found| found == *manifest)
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
                    let next = Manifest { epoch: latest.epoch + 1, description, ..latest.clone() };
                    if epochs.commit(&next, &latest).await.unwrap() == Commit::Stored {
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
        for _ in 0..2 {
            // An answer may be lost.
            assert_eq!(epochs.commit(&next, &first).await.unwrap(), Commit::Stored);
        }
        let other = Manifest { description: "theirs".to_owned(), ..next.clone() };
        assert_eq!(epochs.commit(&other, &first).await.unwrap(), Commit::Taken);
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
            assert_eq!(epochs.commit(&next(epoch, 0), &next(epoch - 1, 0)).await.unwrap(), Commit::Stored);
        }
        assert_eq!(epochs.commit(&next(6, 6), &next(5, 0)).await.unwrap(), Commit::Stored);
        for epoch in 2..6 {
            epochs.remove(epoch).await.unwrap();
        }
        let late = |epoch| Manifest { description: "late".to_owned(), ..next(epoch, 0) };
        for epoch in 3..6 {
            assert_eq!(epochs.commit(&late(epoch), &next(epoch - 1, 0)).await.unwrap(), Commit::TooLate);
        }
        assert_eq!(epochs.numbers(None).await.unwrap(), [6], "nothing is left of it");
        // Nor after one of another writer, which ended before it removed it.
        epochs.folder().create("epochs/000000000003.json", late(3).to_bytes().unwrap()).await.unwrap();
        assert_eq!(epochs.commit(&late(4), &next(3, 0)).await.unwrap(), Commit::TooLate);
        assert_eq!(epochs.commit(&next(7, 6), &next(6, 6)).await.unwrap(), Commit::Stored);
        assert_eq!(epochs.latest().await.unwrap().epoch, 7);
    }

    #[tokio::test]
    async fn a_manifest_that_nobody_would_read_is_not_written() {
        let (_directory, epochs) = empty().await;
        let first = epochs.latest().await.unwrap();
        let files: Vec<FileDigest> = (0..200_000)
            .map(|file| FileDigest {
                path: format!("segments/x/{file}"),
                sha256: "a".repeat(64),
                size_bytes: 1,
            })
            .collect();
        let [entries, images, index] = ["entries.jsonl", "images.pack", "vectors.usearch"].map(|file| {
            FileDigest { path: format!("segments/x/{file}"), sha256: "a".repeat(64), size_bytes: 1 }
        });
        let files = [vec![entries, images, index], files].concat();
        let segment = Segment { name: "x".to_owned(), entries: 1, deleted: None, files };
        let next = Manifest { epoch: 2, segments: vec![segment], ..first.clone() };
        let error = epochs.commit(&next, &first).await.unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
        assert!(epochs.numbers(None).await.unwrap().is_empty());
    }
}
