//! Folders of fixtures, and copies of them that a test may change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Fallible, WORKSPACE};

/// Copies a folder and all in it.
pub fn copy(from: &Path, to: &Path) -> Fallible<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// The files of a folder, and all below it.
pub fn files(folder: &Path) -> Fallible<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Those of them that have these bytes.
pub fn holding(folder: &Path, bytes: &[u8]) -> Fallible<Vec<PathBuf>> {
    let mut holding = Vec::new();
    for file in files(folder)? {
        if fs::read(&file)?.windows(bytes.len()).any(|part| part == bytes) {
            holding.push(file);
        }
    }
    Ok(holding)
}

/// A knowledge base whose reading waits for a writer that never comes.
pub fn that_takes_for_ever_to_read() -> Fallible<TempDir> {
    let folder = tempfile::tempdir()?;
    let made = Command::new("mkfifo").arg(folder.path().join("manifest.json")).status()?;
    if made.success() { Ok(folder) } else { Err(format!("mkfifo: {made}").into()) }
}

/// The folder of a tiny diffusers pipeline.
pub fn pipeline(name: &str) -> PathBuf {
    Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers").join(name)
}

/// A copy of a tiny diffusers pipeline, in a temporary folder of its own.
#[derive(Debug)]
pub struct Copy {
    place: TempDir,
}

impl Copy {
    /// Copies the pipeline `name`.
    pub fn of(name: &str) -> Fallible<Self> {
        let copy = Self { place: tempfile::tempdir()? };
        self::copy(&pipeline(name), &copy.folder())?;
        Ok(copy)
    }

    /// The temporary folder that the copy is in.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The copy.
    pub fn folder(&self) -> PathBuf {
        self.place().join("pipeline")
    }

    /// Where a bundle can be imported to, beside the copy.
    pub fn bundle(&self) -> PathBuf {
        self.place().join("bundle")
    }

    /// Reads a JSON file of the copy.
    pub fn read(&self, file: &str) -> Fallible<Value> {
        Ok(serde_json::from_slice(&fs::read(self.folder().join(file))?)?)
    }

    /// Writes a JSON file of the copy.
    pub fn write(&self, file: &str, value: &Value) -> Fallible<()> {
        Ok(fs::write(self.folder().join(file), value.to_string())?)
    }

    /// Changes a JSON file of the copy.
    pub fn change(&self, file: &str, change: impl FnOnce(&mut Value)) -> Fallible<()> {
        let mut value = self.read(file)?;
        change(&mut value);
        self.write(file, &value)
    }
}
