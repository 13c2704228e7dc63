//! What a folder holds, and what is removed from it.

use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

use futures::TryStreamExt as _;
use object_store::{Error as StoreError, ObjectStoreExt as _};

use super::{Base, CREATE_ATTEMPTS, Folder};
use crate::{FileDigest, StorageError};

/// A file that a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Path relative to the folder, with forward slashes.
    pub path: String,
    /// When it was written, by the clock of the store.
    pub written: SystemTime,
}

impl Folder {
    /// The files below the folder `relative`, in no order; of those whose path comes after `after`, if it is given. None if there is
    /// no such folder.
    pub async fn list(&self, relative: &str, after: Option<&str>) -> Result<Vec<Listed>, StorageError> {
        let path = self.resolve(relative).await?;
        let listed = match after {
            Some(after) => self.store.list_with_offset(Some(&path), &self.resolve(after).await?),
            None => self.store.list(Some(&path)),
        };
        let found: Vec<_> = listed.try_collect().await.map_err(|error| self.explain(relative, error))?;
        let listed = found.into_iter().filter_map(|found| {
            let below: Vec<String> =
                found.location.prefix_match(&path)?.map(|part| part.as_ref().to_owned()).collect();
            Some(Listed {
                path: format!("{relative}/{}", below.join("/")),
                written: found.last_modified.into(),
            })
        });
        Ok(listed.collect())
    }

    /// Removes a file, if it is there: from the store, not from caches ([`Folder::evict`]).
    pub async fn remove(&self, relative: &str) -> Result<(), StorageError> {
        let path = self.resolve(relative).await?;
        match self.store.delete(&path).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.explain(relative, error)),
        }
    }

    /// The names of the folders directly below the folder `relative`, in no order; also of those that have only files that a writer
    /// left half written, as far as the store shows them. None if there is no such folder.
    pub async fn folders(&self, relative: &str) -> Result<Vec<String>, StorageError> {
        let path = self.resolve(relative).await?;
        let Some(local) = self.local_path().map(|folder| folder.join(relative)) else {
            let listed = self.store.list_with_delimiter(Some(&path)).await;
            let found = listed.map_err(|error| self.explain(relative, error))?.common_prefixes;
            return Ok(found.iter().filter_map(|path| path.filename().map(str::to_owned)).collect());
        };
        let failed = |error| StorageError::access(self.describe(relative), error);
        let mut reading = match tokio::fs::read_dir(local).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            reading => reading.map_err(failed)?,
        };
        let mut names = Vec::new();
        while let Some(entry) = reading.next_entry().await.map_err(failed)? {
            // What ends meanwhile is none.
            if entry.file_type().await.is_ok_and(|kind| kind.is_dir()) {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    /// Removes the folder `relative` and all that is in it, if it is there, with files that a writer left half written: from the store,
    /// not from caches ([`Folder::evict`]).
    pub async fn remove_folder(&self, relative: &str) -> Result<(), StorageError> {
        self.resolve(relative).await?;
        let Some(local) = self.local_path().map(|folder| folder.join(relative)) else {
            for file in self.list(relative, None).await? {
                self.remove(&file.path).await?;
            }
            return Ok(());
        };
        let mut attempts = 1;
        loop {
            match tokio::fs::remove_dir_all(&local).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                // Somebody writes to it, or removes it, too.
                Err(_) if attempts < CREATE_ATTEMPTS => attempts += 1,
                Err(error) => return Err(StorageError::access(self.describe(relative), error)),
            }
        }
    }

    /// Removes files below the folder `relative` that a writer left half written before `then`. A local store keeps them beside the
    /// file that they were to become, as `NAME#NUMBER`; the others show none.
    pub async fn remove_half_written(&self, relative: &str, then: SystemTime) -> Result<(), StorageError> {
        self.resolve(relative).await?;
        let Some(local) = self.local_path().map(|folder| folder.join(relative)) else { return Ok(()) };
        let removed = tokio::task::spawn_blocking(move || remove_half_written(&local, then)).await;
        let removed = removed.unwrap_or_else(|cut_off| Err(std::io::Error::other(cut_off)));
        removed.map_err(|error| StorageError::access(self.describe(relative), error))
    }

    /// Removes a file from the cache of this machine, if it is kept there.
    pub async fn evict(&self, file: &FileDigest) {
        if let (Base::Remote { .. }, Some(cache)) = (&self.base, &self.storage.cache) {
            let _ = tokio::fs::remove_file(cache.path(&file.sha256)).await;
        }
    }
}

/// Blocking.
fn remove_half_written(folder: &Path, then: SystemTime) -> std::io::Result<()> {
    let is_half_written = |name: &str| {
        let number = name.rsplit_once('#').map(|(_, number)| number);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let gone = |error: std::io::Error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) };
    let reading = match std::fs::read_dir(folder) {
        Err(error) => return gone(error),
        Ok(reading) => reading,
    };
    for entry in reading {
        let entry = entry?;
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() {
            remove_half_written(&entry.path(), then)?;
        } else if is_half_written(&entry.file_name().to_string_lossy()) && found.modified()? < then {
            std::fs::remove_file(entry.path()).or_else(gone)?;
        }
    }
    Ok(())
}
