//! The folder that a knowledge base is built in: new, empty, or left by a build that was interrupted.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use reverie_storage::Folder;

use super::unfinished::Unfinished;
use crate::Failure;

const MANIFEST: &str = "manifest.json";
const SEGMENTS: &str = "segments";
/// What was embedded so far. A folder that has it and no manifest was left by a build that did not finish.
const UNFINISHED: &str = "unfinished.vectors";

/// Why a folder with a manifest cannot be one.
const BUILT: &str = "it holds a knowledge base already, which is never overwritten; choose another folder";

/// A folder that can be written to and that no other build writes to.
#[derive(Debug)]
pub(super) struct Target {
    folder: Folder,
    path: PathBuf,
    /// Locked as long as the build runs.
    work: File,
    /// Whether the folder was there before.
    is_new: bool,
}

impl Target {
    /// Opens a folder, makes it if it is not there, and looks that it can be written to.
    pub(super) fn prepare(location: &str) -> Result<Self, Failure> {
        let folder = Folder::open(location)?;
        let unusable = |why: String| format!("--out {location} cannot be used: {why}");
        let path = folder.local_path().ok_or_else(|| {
            let why = "a knowledge base is built in a folder on this machine; `reverie knowledge publish` copies it from there";
            unusable(why.to_owned())
        })?;
        let is_new = !path.exists();
        fs::create_dir_all(&path).map_err(|error| unusable(error.to_string()))?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(|error| unusable(error.to_string()))? {
            found.push(entry?.file_name().to_string_lossy().into_owned());
        }
        let holds = |name: &str| found.iter().any(|found| found == name);
        if holds(MANIFEST) {
            return Err(unusable(BUILT.to_owned()).into());
        }
        let is_ours = |name: &String| name == UNFINISHED || (name == SEGMENTS && holds(UNFINISHED));
        if let Some(other) = found.iter().find(|name| !is_ours(name)) {
            return Err(unusable(format!("it holds {other}; choose a new or empty folder")).into());
        }
        let work = OpenOptions::new().read(true).append(true).create(true).open(path.join(UNFINISHED));
        let work = work.map_err(|error| unusable(error.to_string()))?;
        match work.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(unusable("another build is writing to it".to_owned()).into());
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error.to_string()).into()),
        }
        if path.join(MANIFEST).exists() {
            // Another build has just finished.
            remove(&path.join(UNFINISHED), |path| fs::remove_file(path));
            return Err(unusable(BUILT.to_owned()).into());
        }
        // Without a manifest nobody reads them, and they may be torn.
        if holds(SEGMENTS) {
            fs::remove_dir_all(path.join(SEGMENTS)).map_err(|error| unusable(error.to_string()))?;
        }
        Ok(Self { folder, path, work, is_new })
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What an earlier build embedded by the same encoder.
    pub(super) fn unfinished(
        &mut self,
        space_digest: &str,
        dimension: usize,
    ) -> std::io::Result<Unfinished<'_>> {
        Unfinished::resume(&mut self.work, space_digest, dimension)
    }

    /// The knowledge base is complete.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        Ok(fs::remove_file(self.path.join(UNFINISHED))?)
    }

    /// Leaves no trace of a build that had embedded nothing when it failed.
    pub(super) fn tidy(&self) {
        if self.work.metadata().is_ok_and(|found| found.len() == 0) {
            remove(&self.path.join(UNFINISHED), |path| fs::remove_file(path));
            if self.is_new {
                remove(&self.path, |path| fs::remove_dir(path));
            }
        }
    }
}

/// What stays does no harm, and the failure that led here says more.
fn remove(path: &Path, remove: impl FnOnce(&Path) -> std::io::Result<()>) {
    if let Err(error) = remove(path) {
        tracing::debug!(path = %path.display(), %error, "not removed");
    }
}
