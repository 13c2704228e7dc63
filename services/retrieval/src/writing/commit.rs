//! How changes become an epoch: new files first, then the manifest that names them, under a number that one writer can take.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream;
use reverie_knowledge::Live;
use reverie_knowledge::epoch::{Label, MAX_SNAPSHOTS, Manifest, Segment, Snapshot, Vectors, write_segment};
use reverie_knowledge::index::{IndexError, build_index};
use reverie_service_kit::Refusal;
use reverie_storage::{Folder, StorageError};
use roaring::RoaringBitmap;
use tonic::{Code, Status};

use super::change::{Change, NewEntry, Plan, SnapshotChange, Told};
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
    /// A segment of a snapshot that cannot be read.
    unreadable: Option<String>,
}

/// Of entries that are to be forgotten, their ids and their positions in a segment.
type Having = Vec<(String, u32)>;

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
        let (mut written, mut unknown) = (None, None);
        let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
        loop {
            let base = self.live.refresh().await.map_err(|error| unavailable(&error))?;
            let is_in_time = begun.elapsed() < TRIED_FOR;
            match self.attempt(&base, changes, &mut written, &mut unknown).await {
                Ok(Some(committed)) => return Ok(committed),
                Ok(None) if is_in_time => {}
                Ok(None) => {
                    let seconds = TRIED_FOR.as_secs();
                    let why = format!("for {seconds} s other writers were faster each time; try again");
                    return Err(Refusal::unavailable(why).into());
                }
                // What the base had may be removed, because another writer was faster.
                Err(status) if is_in_time && status.code() == Code::Unavailable => {
                    let latest = self.live.refresh().await.map_err(|_| status.clone())?;
                    // Or it is stored, and the answer was lost.
                    if let Some(committed) = unknown.take()
                        && self.live.epochs().is_there(&committed.manifest).await
                    {
                        return Ok(committed);
                    }
                    if latest.epoch == base.epoch {
                        return Err(status);
                    }
                }
                Err(status) => return Err(status),
            }
            // Whoever was faster waits, too, and not as long as this one.
            let share = rand::random_range(0.0..=1.0);
            tokio::time::sleep(wait.mul_f64(share)).await;
            wait = LONGEST_WAIT.min(2 * wait);
        }
    }

    /// Stores them after this epoch; none if another writer was faster. If nobody knows, `unknown` is what was to be stored.
    async fn attempt(
        &self,
        base: &KnowledgeBase,
        changes: &[&Change],
        written: &mut Option<Segment>,
        unknown: &mut Option<Committed>,
    ) -> Result<Option<Committed>, Status> {
        let (next, told) = match changes {
            [Change::Snapshot(change)] => (snapshot(base, change)?, vec![Told::default()]),
            [Change::Replace(rewritten)] => (self.replace(base, rewritten).await?, vec![Told::default()]),
            [Change::Raise { oldest }] => (raise(base, *oldest), vec![Told::default()]),
            _ => self.entries(base, changes, written).await?,
        };
        let before = Arc::new(base.manifest.clone());
        let Next::Epoch(mut manifest) = next else {
            return Ok(Some(Committed { manifest: Arc::clone(&before), before, told }));
        };
        manifest.epoch = base.epoch + 1;
        if has_dropped_what_was_to_forget(&base.manifest, &manifest) {
            manifest.oldest = manifest.epoch;
        }
        manifest.schema = manifest.schema.max(manifest.lowest_schema(false));
        let committed = Committed { manifest: Arc::new(manifest.clone()), before, told };
        match self.live.commit(manifest).await {
            Ok(stored) => Ok(stored.map(|_| committed)),
            Err(error) => {
                *unknown = Some(committed);
                Err(unavailable(&error))
            }
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
                told.unreadable.clone_from(&marked.unreadable);
            }
        }
        let is_changed = marked.any || !plan.stored.is_empty();
        if !plan.stored.is_empty() {
            let segment = match written.take() {
                Some(segment) if !base.manifest.is_void(&segment.name) => segment,
                _ => self.write(base, &plan.stored).await?,
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
        let (mut marked, mut known) = (Marked::default(), HashMap::new());
        for (number, list) in manifest.lists_mut().enumerate() {
            let is_present = number == 0;
            for (place, segment) in list.iter_mut().enumerate() {
                let deleted = plan.deleted.get(&place).filter(|_| is_present);
                let forgotten = match known.get(&segment.name) {
                    Some(forgotten) => Having::clone(forgotten),
                    None => match self.having(base, segment, &plan.forget).await {
                        Err(error) if error.is_damage() => {
                            marked.unreadable = Some(error.to_string());
                            Having::new()
                        }
                        forgotten => forgotten?,
                    },
                };
                known.insert(segment.name.clone(), forgotten.clone());
                if deleted.is_none() && forgotten.is_empty() {
                    continue;
                }
                let gone = if is_present {
                    Ok(RoaringBitmap::clone(&base.parts[place].deleted))
                } else {
                    segment.read_deleted(self.folder()).await
                };
                let mut gone = match gone {
                    Err(error) if error.is_damage() => {
                        marked.unreadable = Some(error.to_string());
                        continue;
                    }
                    gone => gone?,
                };
                if let Some(deleted) = deleted {
                    gone |= deleted;
                }
                gone.extend(forgotten.iter().map(|(_, position)| *position));
                let mut forget: BTreeSet<u64> = segment.to_forget().collect();
                forget.extend((!forgotten.is_empty()).then_some(base.epoch + 1));
                segment.delete(self.folder(), base.epoch + 1, &gone, forget).await?;
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
    ) -> Result<Having, StorageError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(part) = base.part(segment) {
            let here = ids.iter().filter_map(|id| Some(((*id).to_owned(), part.loaded.position(id)?)));
            return Ok(here.collect());
        }
        let all = segment.read_ids(self.folder()).await?.into_iter().zip(0..);
        Ok(all.filter(|(id, _)| ids.contains(id.as_str())).collect())
    }

    async fn write(&self, base: &KnowledgeBase, entries: &[&NewEntry]) -> Result<Segment, Status> {
        let rows: Vec<Vec<f32>> = entries.iter().map(|entry| entry.vector.clone()).collect();
        let (dimension, kind) = (base.dimension, base.manifest.vectors);
        let vectors: Vectors = tokio::task::spawn_blocking(move || build_index(dimension, kind, &rows, 1))
            .await
            .map_err(Refusal::internal)?
            .map_err(|error| match error {
                IndexError::NoMemory => Refusal::unavailable(error),
                _ => Refusal::internal(error),
            })?;
        let labels: Vec<Label> = entries.iter().map(|entry| entry.label.clone()).collect();
        let images = stream::iter(entries.iter().map(|entry| Ok(entry.image.clone())));
        let name = Segment::new_name(base.epoch + 1);
        let written =
            write_segment::<StorageError>(self.folder(), &name, labels, None, vectors, images).await;
        written.map_err(|error| unavailable(&error))
    }

    /// Puts a segment in the place of those that it was made of, wherever they still are as they were.
    async fn replace(&self, base: &KnowledgeBase, rewritten: &Rewritten) -> Result<Next, Status> {
        let mut manifest = base.manifest.clone();
        if rewritten.segment.as_ref().is_some_and(|segment| manifest.is_void(&segment.name)) {
            return Ok(Next::AsItIs);
        }
        let (mut is_changed, sources) = (false, &rewritten.sources);
        let lists = if rewritten.everywhere { usize::MAX } else { 1 };
        for list in manifest.lists_mut().take(lists) {
            let are_these = |window: &[Segment]| {
                window.iter().zip(sources).all(|(segment, source)| segment.holds_the_same_as(&source.segment))
            };
            let Some(start) = list.windows(sources.len()).position(are_these) else { continue };
            let range = start..start + sources.len();
            let moved = self.moved(rewritten, &list[range.clone()], base.epoch + 1).await;
            let moved = moved.map_err(|error| unavailable(&error))?;
            let Some(segment) = moved else { return Ok(Next::AsItIs) };
            list.splice(range, segment);
            is_changed = true;
        }
        tidy(&mut manifest);
        Ok(if is_changed { Next::Epoch(manifest) } else { Next::AsItIs })
    }

    /// What takes the place of `now`: the segment without what was deleted since, or nothing. None if it lacks an entry that is there.
    async fn moved(
        &self,
        rewritten: &Rewritten,
        now: &[Segment],
        epoch: u64,
    ) -> Result<Option<Option<Segment>>, StorageError> {
        let (mut deleted, mut first, mut forget) = (RoaringBitmap::new(), 0, BTreeSet::new());
        for (now, source) in now.iter().zip(&rewritten.sources) {
            let gone = now.read_deleted(self.folder()).await?;
            let all: RoaringBitmap = (0..now.entries as u32).collect();
            if !(&all - &gone).is_subset(&source.kept) {
                return Ok(None);
            }
            let left = &gone & &source.kept;
            deleted.extend(left.iter().map(|position| first + source.kept.rank(position) as u32 - 1));
            first += source.kept.len() as u32;
            if !left.is_empty() {
                // Asked for after the segment was written.
                forget.extend(now.to_forget().filter(|marked| *marked > rewritten.as_of));
            }
        }
        let Some(mut segment) = rewritten.segment.clone() else { return Ok(Some(None)) };
        if !deleted.is_empty() {
            segment.delete(self.folder(), epoch, &deleted, forget).await?;
        }
        Ok(Some(Some(segment)))
    }
}

/// Leaves out segments of which nothing is there, unless something of them is still to be forgotten.
fn tidy(manifest: &mut Manifest) {
    let is_needed = |segment: &Segment| segment.present() > 0 || segment.to_forget().next().is_some();
    for list in manifest.lists_mut() {
        list.retain(is_needed);
    }
}

/// Whether a segment that had something to forget is listed no more.
fn has_dropped_what_was_to_forget(before: &Manifest, now: &Manifest) -> bool {
    let listed: HashSet<&str> = now.all_segments().map(|segment| segment.name.as_str()).collect();
    before
        .all_segments()
        .any(|segment| segment.to_forget().next().is_some() && !listed.contains(segment.name.as_str()))
}

fn raise(base: &KnowledgeBase, oldest: u64) -> Next {
    if oldest <= base.manifest.oldest {
        return Next::AsItIs;
    }
    Next::Epoch(Manifest { oldest: oldest.min(base.epoch + 1), ..base.manifest.clone() })
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
    Ok(Next::Epoch(manifest))
}

/// Nobody knows whether it was stored.
fn unavailable(error: &dyn std::error::Error) -> Status {
    Refusal::unavailable(format!("the change could not be stored: {error}")).into()
}
