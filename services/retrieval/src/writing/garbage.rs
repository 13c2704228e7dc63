//! Files of a knowledge base that nothing needs any more: epochs that were followed by others long ago, the files that they alone list,
//! and those that a writer left behind which ended before it committed them.

use std::collections::HashSet;
use std::time::Duration;

use reverie_knowledge::Epochs;
use reverie_knowledge::epoch::{Manifest, Segment};
use reverie_storage::{Listed, StorageError};

use super::is_to_forget;

/// How long an epoch that was followed by another is kept, for readers that are behind; and files that no epoch lists, for writers that
/// are about to commit them.
const KEPT_FOR: Duration = Duration::from_hours(1);

/// Removes the files of all segments that had something to be forgotten in an epoch since `marked`, and that are not there `now`: what is
/// merged meanwhile may take it along.
pub(super) async fn remove_forgotten_since(
    epochs: &Epochs,
    marked: &Manifest,
    now: &Manifest,
) -> Result<(), StorageError> {
    remove_forgotten(epochs, marked, now).await?;
    for number in marked.epoch + 1..now.epoch {
        match epochs.read(number).await {
            Ok(between) => remove_forgotten(epochs, &between, now).await?,
            // Removed after an hour, with what it alone had.
            Err(StorageError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes the files of a segment that was written and that no epoch has.
pub(super) async fn remove_unused(epochs: &Epochs, segment: &Segment) -> Result<(), StorageError> {
    for file in segment.all_files() {
        epochs.folder().remove(&file.path).await?;
    }
    Ok(())
}

/// Removes the files of segments that had something to be forgotten in the epoch `before`, and that are not there `now`.
pub(super) async fn remove_forgotten(
    epochs: &Epochs,
    before: &Manifest,
    now: &Manifest,
) -> Result<(), StorageError> {
    let needed: HashSet<&str> = now.all_segments().map(|segment| segment.name.as_str()).collect();
    let gone = before.all_segments().filter(|segment| !needed.contains(segment.name.as_str()));
    for file in gone.filter(|segment| is_to_forget(segment)).flat_map(Segment::all_files) {
        epochs.folder().remove(&file.path).await?;
        epochs.folder().evict(file).await;
    }
    Ok(())
}

/// Removes what was needed for the last time an hour before the last file was written: by the clock of the store alone, since files that
/// are about to be committed must not look old.
pub(super) async fn collect(epochs: &Epochs) -> Result<(), StorageError> {
    collect_before(epochs, KEPT_FOR).await
}

/// Removes what was needed for the last time so long before the last file was written.
pub(super) async fn collect_before(epochs: &Epochs, kept_for: Duration) -> Result<(), StorageError> {
    let (listed, all) = (epochs.list().await?, epochs.segment_files().await?);
    let written = listed.iter().map(|(_, written)| *written).chain(all.iter().map(|file| file.written));
    let Some(then) = written.max().and_then(|last| last.checked_sub(kept_for)) else { return Ok(()) };
    let Some(oldest) = listed.iter().rposition(|(_, written)| *written < then) else { return Ok(()) };
    // What was written before then and is needed since is in the epoch of then, or in the latest one. The first one can be read by
    // whoever knows of no other.
    let mut needed = vec![epochs.read(listed[oldest].0).await?, epochs.latest().await?];
    match Manifest::read(epochs.folder()).await {
        Ok(first) => needed.push(first),
        Err(StorageError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let files = needed.iter().flat_map(Manifest::all_segments).flat_map(Segment::all_files);
    let paths: HashSet<&str> = files.map(|file| file.path.as_str()).collect();
    let is_old = |file: &Listed| file.written < then && !paths.contains(file.path.as_str());
    let files: Vec<Listed> = all.into_iter().filter(is_old).collect();
    // Manifests first: none of those that are left lists a file that is not there.
    for (number, _) in &listed[..oldest] {
        epochs.remove(*number).await?;
    }
    for file in &files {
        epochs.folder().remove(&file.path).await?;
    }
    if oldest > 0 || !files.is_empty() {
        let location = epochs.folder().location();
        tracing::info!(location, epochs = oldest, files = files.len(), "removed what no epoch needs");
    }
    Ok(())
}
