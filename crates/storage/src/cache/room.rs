//! What is evicted when the cache is full.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{Cache, LOCK, PART};

/// A part that nothing was written to for so long was left by a process that was killed.
const ABANDONED: Duration = Duration::from_hours(1);

struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Cache {
    /// Evicts the least recently used files until `bytes` more fit. What a process holds stays.
    pub(super) fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut kept = Vec::new();
        for folder in entries(&self.folder.join("sha256"))? {
            kept.extend(files(&folder.path)?);
        }
        let mut taken: u64 = kept.iter().map(|file| file.bytes).sum();
        for part in files(&self.incoming())? {
            let name = part.path.file_name().unwrap_or_default().to_string_lossy();
            let is_left = name.starts_with(PART) || name.ends_with(LOCK);
            let is_abandoned = part.used.elapsed().is_ok_and(|idle| idle > ABANDONED);
            if is_left && is_abandoned && fs::remove_file(&part.path).is_ok() {
                tracing::info!(part = %part.path.display(), "removed what is left of a download");
            } else {
                taken += part.bytes;
            }
        }
        kept.sort_by_key(|file| file.used);
        let fits = |taken: u64| taken.saturating_add(bytes) <= self.max_bytes;
        for file in kept {
            if fits(taken) {
                break;
            }
            let is_held = File::open(&file.path)
                .is_ok_and(|opened| matches!(opened.try_lock(), Err(TryLockError::WouldBlock)));
            if !is_held && fs::remove_file(&file.path).is_ok() {
                taken -= file.bytes;
                tracing::info!(file = %file.path.display(), "evicted from the cache");
            }
        }
        if fits(taken) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!(
                "{taken} of {} bytes are taken by what is in use, and {bytes} more are needed",
                self.max_bytes
            ),
        ))
    }
}

/// What is in a folder; nothing if there is none. What vanishes meanwhile is left out.
fn entries(folder: &std::path::Path) -> io::Result<Vec<Kept>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry?;
        let Ok(about) = entry.metadata() else { continue };
        let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Kept { path: entry.path(), bytes: about.len(), used });
    }
    Ok(found)
}

fn files(folder: &std::path::Path) -> io::Result<Vec<Kept>> {
    Ok(entries(folder)?.into_iter().filter(|entry| entry.path.is_file()).collect())
}
