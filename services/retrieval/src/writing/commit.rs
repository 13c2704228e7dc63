//! How changes become an epoch: new files first, then the manifest that names them, under a number that one writer can take.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream;
use reverie_knowledge::Live;
use reverie_knowledge::epoch::{Label, MAX_SNAPSHOTS, Manifest, Segment, Snapshot, Vectors, write_segment};
use reverie_knowledge::index::build_index;
use reverie_service_kit::Refusal;
use reverie_storage::{Folder, StorageError};
use roaring::RoaringBitmap;
use tonic::Status;

use super::change::{Change, NewEntry, Plan, SnapshotChange, Told};
use super::is_to_forget;
use super::rewrite::Rewritten;
use crate::knowledge_base::{KnowledgeBase, Reader};

/// How long a change is tried again if another writer was faster each time.
const TRIED_FOR: Duration = Duration::from_secs(30);
/// The first wait before another attempt is at most so long, the next ones twice as long, and so on.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Stores changes of one knowledge base.
pub(super) struct Committer {
    live: Arc<Live<Reader>>,
}

/// Changes that were stored.
pub(super) struct Committed {
    /// The epoch that has them.
    pub(super) manifest: Arc<Manifest>,
    /// The one before.
    pub(super) before: Arc<Manifest>,
    /// What each came to.
    pub(super) told: Vec<Told>,
}

/// What was marked as deleted.
#[derive(Default)]
struct Marked {
    /// Whether there was anything.
    any: bool,
    /// Ids of which there was something to forget.
    forgotten: BTreeSet<String>,
}

/// What a change makes of a manifest.
enum Next {
    /// Another one.
    Epoch(Manifest),
    /// Nothing: it is as it should be.
    AsItIs,
}

impl Committer {
    pub(super) fn new(live: Arc<Live<Reader>>) -> Self {
        Self { live }
    }

    /// Stores changes: either any number of those of entries, or one other.
    pub(super) async fn commit(&self, changes: &[&Change]) -> Result<Committed, Status> {
        let (mut written, begun, mut wait) = (None, Instant::now(), FIRST_WAIT);
        loop {
            let base = self.live.refresh().await.map_err(|error| unavailable(&error))?;
            let (next, told) = match changes {
                [Change::Snapshot(change)] => (snapshot(&base, change)?, vec![Told::default()]),
                [Change::Replace(rewritten)] => {
                    (self.replace(&base, rewritten).await?, vec![Told::default()])
                }
                _ => self.entries(&base, changes, &mut written).await?,
            };
            let before = Arc::new(base.manifest.clone());
            let Next::Epoch(mut manifest) = next else {
                return Ok(Committed { manifest: Arc::clone(&before), before, told });
            };
            manifest.epoch = base.epoch + 1;
            let committed = self.live.commit(manifest).await.map_err(|error| unavailable(&error))?;
            if let Some(base) = committed {
                return Ok(Committed { manifest: Arc::new(base.manifest.clone()), before, told });
            }
            if begun.elapsed() > TRIED_FOR {
                let seconds = TRIED_FOR.as_secs();
                let why = format!("for {seconds} s other writers were faster each time; try again");
                return Err(Refusal::unavailable(why).into());
            }
            // Whoever was faster waits, too, and not as long as this one.
            let share = rand::random_range(0.0..=1.0);
            tokio::time::sleep(wait.mul_f64(share)).await;
            wait = LONGEST_WAIT.min(2 * wait);
        }
    }

    fn folder(&self) -> &Folder {
        self.live.epochs().folder()
    }

    /// The segment of new entries is written once, however often its epoch is tried: `written` keeps it.
    async fn entries(
        &self,
        base: &KnowledgeBase,
        changes: &[&Change],
        written: &mut Option<Segment>,
    ) -> Result<(Next, Vec<Told>), Status> {
        let mut plan = Plan::of(base, changes);
        if plan.is_empty() {
            return Ok((Next::AsItIs, plan.told));
        }
        let mut manifest = base.manifest.clone();
        let marked = self.mark(base, &mut manifest, &plan).await.map_err(|error| unavailable(&error))?;
        for (told, change) in plan.told.iter_mut().zip(changes) {
            if matches!(change, Change::Delete { forget: true, .. }) {
                told.missing.retain(|id| !marked.forgotten.contains(id));
            }
        }
        let is_changed = marked.any || !plan.stored.is_empty();
        if !plan.stored.is_empty() {
            let segment = match written.take() {
                Some(segment) => segment,
                None => self.write(base, &plan.stored).await?,
            };
            *written = Some(segment.clone());
            manifest.segments.push(segment);
        }
        if !is_changed {
            return Ok((Next::AsItIs, plan.told));
        }
        tidy(&mut manifest);
        let has_metadata = plan.stored.iter().any(|entry| !entry.label.metadata.is_empty());
        manifest.schema = manifest.schema.max(manifest.lowest_schema(has_metadata));
        Ok((Next::Epoch(manifest), plan.told))
    }

    /// Writes which entries are there no more: what is deleted in the epoch, and what is to be forgotten in every segment that has
    /// something of it, also of snapshots.
    async fn mark(
        &self,
        base: &KnowledgeBase,
        manifest: &mut Manifest,
        plan: &Plan<'_>,
    ) -> Result<Marked, StorageError> {
        let mut marked = Marked::default();
        for (number, list) in manifest.lists_mut().enumerate() {
            let is_present = number == 0;
            for (place, segment) in list.iter_mut().enumerate() {
                let deleted = plan.deleted.get(&place).filter(|_| is_present);
                let forgotten = self.having(base, segment, &plan.forget).await?;
                if deleted.is_none() && forgotten.is_empty() {
                    continue;
                }
                let mut gone = if is_present {
                    RoaringBitmap::clone(&base.parts[place].deleted)
                } else {
                    segment.read_deleted(self.folder()).await?
                };
                if let Some(deleted) = deleted {
                    gone |= deleted;
                }
                gone.extend(forgotten.iter().map(|(_, position)| *position));
                let forget = is_to_forget(segment) || !forgotten.is_empty();
                segment.delete(self.folder(), &gone, forget).await?;
                marked.any = true;
                marked.forgotten.extend(forgotten.into_iter().map(|(id, _)| id));
            }
        }
        Ok(marked)
    }

    /// The entries of a segment with one of these ids, and their positions; also those that are deleted.
    async fn having(
        &self,
        base: &KnowledgeBase,
        segment: &Segment,
        ids: &BTreeSet<&str>,
    ) -> Result<Vec<(String, u32)>, StorageError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(part) = base.part(segment) {
            let here = ids.iter().filter_map(|id| Some(((*id).to_owned(), part.loaded.position(id)?)));
            return Ok(here.collect());
        }
        let entries = segment.read_entries(self.folder()).await?.into_iter().zip(0..);
        let entries = entries.map(|(entry, position)| (entry.id, position));
        Ok(entries.filter(|(id, _)| ids.contains(id.as_str())).collect())
    }

    async fn write(&self, base: &KnowledgeBase, entries: &[&NewEntry]) -> Result<Segment, Status> {
        let rows: Vec<Vec<f32>> = entries.iter().map(|entry| entry.vector.clone()).collect();
        let (dimension, kind) = (base.dimension, base.manifest.vectors);
        let vectors: Vectors = tokio::task::spawn_blocking(move || build_index(dimension, kind, &rows))
            .await
            .map_err(Refusal::internal)?
            .map_err(Refusal::internal)?;
        let labels: Vec<Label> = entries.iter().map(|entry| entry.label.clone()).collect();
        let images = stream::iter(entries.iter().map(|entry| Ok(entry.image.clone())));
        let name = Segment::new_name(base.epoch + 1);
        let written = write_segment::<StorageError>(self.folder(), &name, labels, vectors, images).await;
        written.map_err(|error| unavailable(&error))
    }

    /// Puts a segment in the place of those that it was made of, wherever they still are as they were.
    async fn replace(&self, base: &KnowledgeBase, rewritten: &Rewritten) -> Result<Next, Status> {
        let mut manifest = base.manifest.clone();
        let (mut is_changed, sources) = (false, &rewritten.sources);
        let lists = if rewritten.everywhere { usize::MAX } else { 1 };
        for list in manifest.lists_mut().take(lists) {
            let are_these = |window: &[Segment]| {
                window.iter().zip(sources).all(|(segment, source)| segment.holds_the_same_as(&source.segment))
            };
            let Some(start) = list.windows(sources.len()).position(are_these) else { continue };
            let range = start..start + sources.len();
            let moved =
                self.moved(rewritten, &list[range.clone()]).await.map_err(|error| unavailable(&error))?;
            let Some(segment) = moved else { return Ok(Next::AsItIs) };
            list.splice(range, segment);
            is_changed = true;
        }
        tidy(&mut manifest);
        manifest.schema = manifest.schema.max(manifest.lowest_schema(false));
        Ok(if is_changed { Next::Epoch(manifest) } else { Next::AsItIs })
    }

    /// What takes the place of `now`: the segment without what was deleted since, or nothing. None if it lacks an entry that is there.
    async fn moved(
        &self,
        rewritten: &Rewritten,
        now: &[Segment],
    ) -> Result<Option<Option<Segment>>, StorageError> {
        let (mut deleted, mut first, mut forget) = (RoaringBitmap::new(), 0, false);
        for (now, source) in now.iter().zip(&rewritten.sources) {
            let gone = now.read_deleted(self.folder()).await?;
            let all: RoaringBitmap = (0..now.entries as u32).collect();
            if !(&all - &gone).is_subset(&source.kept) {
                return Ok(None);
            }
            let left = &gone & &source.kept;
            deleted.extend(left.iter().map(|position| first + source.kept.rank(position) as u32 - 1));
            first += source.kept.len() as u32;
            // Asked for after the segment was written.
            forget |= !left.is_empty() && now.deleted != source.segment.deleted && is_to_forget(now);
        }
        let Some(mut segment) = rewritten.segment.clone() else { return Ok(Some(None)) };
        if !deleted.is_empty() {
            segment.delete(self.folder(), &deleted, forget).await?;
        }
        Ok(Some(Some(segment)))
    }
}

/// Leaves out segments of which nothing is there, unless something of them is still to be forgotten.
fn tidy(manifest: &mut Manifest) {
    let is_needed = |segment: &Segment| segment.present() > 0 || is_to_forget(segment);
    for list in manifest.lists_mut() {
        list.retain(is_needed);
    }
}

fn snapshot(base: &KnowledgeBase, change: &SnapshotChange) -> Result<Next, Status> {
    let mut manifest = base.manifest.clone();
    match change {
        SnapshotChange::Create(name) => {
            if manifest.snapshots.contains_key(name) {
                return Err(Refusal::already_exists(format!("there is a snapshot {name:?} already")).into());
            }
            if manifest.snapshots.len() >= MAX_SNAPSHOTS {
                let why = format!("there are {MAX_SNAPSHOTS} snapshots, which is the most; delete one first");
                return Err(Refusal::not_writable(why).into());
            }
            let snapshot = Snapshot { epoch: base.epoch, segments: manifest.segments.clone() };
            manifest.snapshots.insert(name.clone(), snapshot);
        }
        SnapshotChange::Restore(name) => {
            let known = || manifest.snapshots.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let snapshot = manifest.snapshots.get(name).ok_or_else(|| {
                Refusal::not_found(format!("there is no snapshot {name:?}; there is {:?}", known()))
            })?;
            if manifest.segments == snapshot.segments {
                return Ok(Next::AsItIs);
            }
            manifest.segments.clone_from(&snapshot.segments);
        }
        SnapshotChange::Delete(name) => {
            if manifest.snapshots.remove(name).is_none() {
                return Ok(Next::AsItIs);
            }
        }
    }
    manifest.schema = manifest.schema.max(manifest.lowest_schema(false));
    Ok(Next::Epoch(manifest))
}

/// Nobody knows whether it was stored.
fn unavailable(error: &dyn std::error::Error) -> Status {
    Refusal::unavailable(format!("the change could not be stored: {error}")).into()
}
