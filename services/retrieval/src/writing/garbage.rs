//! Files of a knowledge base that nothing needs any more: epochs that were followed by others long ago, the segments that they alone list,
//! and those that a writer left behind which ended before it committed them.
//!
//! What is removed is void first: an epoch says so, so that no writer, however slow, commits it any more. Clocks decide only how long a
//! reader may be behind.

use std::collections::HashSet;
use std::error::Error;
use std::time::{Duration, SystemTime};

use reverie_knowledge::epoch::{Manifest, Segment};
use reverie_knowledge::{Epochs, Live};
use reverie_service_kit::Permit;
use reverie_storage::StorageError;

use super::{Change, Writer};
use crate::knowledge_base::Reader;

/// How long an epoch that was followed by another is kept, for readers that are behind; and a file that is half written.
const KEPT_FOR: Duration = Duration::from_hours(1);

/// Removes what is void. Says how many segments were.
pub(super) async fn sweep(epochs: &Epochs) -> Result<usize, StorageError> {
    epochs.sweep(an_hour_ago()).await
}

/// Removes what was needed for the last time an hour ago.
pub(super) async fn collect(
    live: &Live<Reader>,
    writer: &Writer,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (epochs, then) = (live.epochs(), an_hour_ago());
    let mut removed = epochs.sweep(then).await?;
    let listed = epochs.list().await?;
    // The epoch that was the latest one then.
    let Some(place) = listed.iter().rposition(|(_, written)| *written < then) else { return Ok(()) };
    let (latest_then, _) = listed[place];
    let is_quiet_since = place + 1 == listed.len();
    let oldest = if is_quiet_since { latest_then + 1 } else { latest_then };
    let needed = [epochs.read(latest_then).await?, epochs.latest().await?];
    if place > 1 || has_garbage(epochs, &needed, oldest).await? {
        writer.change(Change::Raise { oldest }, Permit::default()).await?;
        removed += epochs.sweep(then).await?;
    }
    let oldest = epochs.latest().await?.oldest;
    let old: Vec<u64> = listed
        .iter()
        .filter(|(number, written)| *number < oldest && *written < then)
        .map(|it| it.0)
        .collect();
    for number in &old {
        epochs.remove(*number).await?;
    }
    if removed > 0 || !old.is_empty() {
        let location = epochs.folder().location();
        tracing::info!(location, epochs = old.len(), segments = removed, "removed what no epoch needs");
    }
    Ok(())
}

/// Whether there are segments that came with `oldest` or before, and that none of these epochs lists.
async fn has_garbage(epochs: &Epochs, needed: &[Manifest], oldest: u64) -> Result<bool, StorageError> {
    let needed = needed.iter().flat_map(Manifest::all_segments);
    let needed: HashSet<&str> = needed.map(|segment| segment.name.as_str()).collect();
    let is_old = |name: &str| Segment::came_with(name).is_some_and(|epoch| epoch <= oldest);
    Ok(epochs.segments().await?.iter().any(|name| is_old(name) && !needed.contains(name.as_str())))
}

fn an_hour_ago() -> SystemTime {
    SystemTime::now().checked_sub(KEPT_FOR).unwrap_or(SystemTime::UNIX_EPOCH)
}
