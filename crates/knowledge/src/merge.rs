//! One knowledge base of several that were built apart: their segments are copied, and one epoch lists all of them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reverie_storage::{FileDigest, Folder, StorageError, publish, sha256_hex};

use crate::epoch::{Manifest, Segment};
use crate::{Commit, Epochs};

/// Ids that are told of those that occur twice.
const TOLD: usize = 5;
/// Files that are copied at a time.
const AT_A_TIME: usize = 4;
/// How long it is tried to commit what was copied, if other writers are faster each time.
const TRIED_FOR: Duration = Duration::from_mins(5);
/// How often it is copied, if what was copied became void meanwhile.
const ROUNDS: usize = 3;
/// The longest wait between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Why knowledge bases are not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A file cannot be read or written, or is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A part does not fit.
    #[error("{part}: {why}")]
    Unlike {
        /// The part.
        part: String,
        /// What differs.
        why: String,
    },
    /// Entries occur twice.
    #[error(
        "{count} ids occur twice, such as {}; one knowledge base has one entry of an id: nothing was added", ids.join(", ")
    )]
    Twice {
        /// How many.
        count: usize,
        /// Some of them, each with the two places.
        ids: Vec<String>,
    },
    /// Others wrote all the time.
    #[error("other writers were faster each time for {} s; nothing was added: try again", TRIED_FOR.as_secs())]
    Busy,
    /// What was copied became void each time, before it was complete.
    #[error(
        "copies were taken for the remains of a writer that had ended, {ROUNDS} times; nothing was added. While a knowledge base is served, a merge \
         may take an hour, and none goes on after a Forget: merge fewer parts at a time"
    )]
    Slow,
}

/// What was merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// The epoch that has all of it.
    pub epoch: u64,
    /// Entries that it has.
    pub size: u64,
    /// Entries that were added.
    pub added: u64,
    /// Entries of the parts that had been merged before; some may have been deleted since.
    pub before: u64,
}

/// A segment of a part.
struct Own<'a> {
    part: &'a Folder,
    segment: Segment,
    /// What it holds, whatever it is called.
    identity: String,
}

/// Adds to the knowledge base in `target` all entries of others, which are given by their folders, in one epoch: readers see all of them
/// or none. What was merged before is not added again, unless `again` says so: a merge that was interrupted, or whose end nobody saw, is
/// repeated, and nothing comes back that was deleted since.
///
/// # Errors
/// A part is of another space or kind of vectors, or has entries that are to be forgotten; an id occurs twice; others write all the time.
/// Nothing was added then.
pub async fn merge(target: &Folder, parts: &[Folder], again: bool) -> Result<Merged, MergeError> {
    let epochs = Epochs::new(target.clone());
    let own = read(&epochs.latest().await?, parts).await?;
    let mut ids = HashMap::new();
    let mut copied: HashMap<&str, Segment> = HashMap::new();
    let (mut rounds, mut begun) = (0, Instant::now());
    loop {
        let latest = epochs.latest().await?;
        let is_new = |own: &Own<'_>| again || !latest.merged.contains(&own.identity);
        let (new, known): (Vec<&Own<'_>>, Vec<_>) = own.iter().partition(|own| is_new(own));
        let before = known.iter().map(|own| own.segment.present()).sum();
        if new.is_empty() {
            return Ok(Merged { epoch: latest.epoch, size: latest.present(), added: 0, before });
        }
        check_ids(target, &latest, &new, &mut ids).await?;
        let is_there = |own: &&Own<'_>| {
            copied.get(own.identity.as_str()).is_some_and(|segment| !latest.is_void(&segment.name))
        };
        let missing: Vec<&Own<'_>> = new.iter().copied().filter(|own| !is_there(own)).collect();
        if !missing.is_empty() {
            if rounds == ROUNDS {
                return Err(MergeError::Slow);
            }
            let segments = copy_all(target, &missing, latest.epoch + 1).await?;
            copied.extend(missing.iter().map(|own| own.identity.as_str()).zip(segments));
            (rounds, begun) = (rounds + 1, Instant::now());
            // Others may have written meanwhile.
            continue;
        }
        let mut next = Manifest { epoch: latest.epoch + 1, ..latest.clone() };
        next.segments.extend(new.iter().filter_map(|own| copied.get(own.identity.as_str()).cloned()));
        next.merged.extend(new.iter().map(|own| own.identity.clone()));
        next.schema = next.lowest_schema(false);
        if epochs.commit(&next, &latest).await? == Commit::Stored {
            let added = next.present() - latest.present();
            return Ok(Merged { epoch: next.epoch, size: next.present(), added, before });
        }
        if begun.elapsed() > TRIED_FOR {
            return Err(MergeError::Busy);
        }
        tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.0..=1.0))).await;
    }
}

/// The segments of all parts, if they fit into the knowledge base.
async fn read<'a>(target: &Manifest, parts: &'a [Folder]) -> Result<Vec<Own<'a>>, MergeError> {
    let mut all: Vec<Own<'a>> = Vec::new();
    for part in parts {
        let unlike = |why: String| MergeError::Unlike { part: part.location().to_owned(), why };
        let manifest = Epochs::new(part.clone()).latest().await?;
        if manifest.space_digest != target.space_digest || manifest.dimension != target.dimension {
            let why = "its vectors are of other joint encoders; build it with the same bundle";
            return Err(unlike(why.to_owned()));
        }
        if manifest.vectors != target.vectors {
            let (own, kind) = (manifest.vectors.name(), target.vectors.name());
            return Err(unlike(format!("its vectors are {own}; build it with --vectors {kind}")));
        }
        for segment in manifest.segments {
            if segment.to_forget().next().is_some() {
                return Err(unlike("it has entries that are still to be forgotten".to_owned()));
            }
            all.push(Own { part, identity: identity(&segment), segment });
        }
    }
    Ok(all)
}

/// What a segment holds, whatever it is called.
fn identity(segment: &Segment) -> String {
    let file = |file: &FileDigest| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        format!("{name} {}\n", file.sha256)
    };
    sha256_hex(segment.files.iter().map(file).collect::<String>().as_bytes())[..32].to_owned()
}

/// Refuses ids that occur twice. `known` keeps the ids of segments that were read.
async fn check_ids(
    target: &Folder,
    latest: &Manifest,
    new: &[&Own<'_>],
    known: &mut HashMap<(String, String), Vec<String>>,
) -> Result<(), MergeError> {
    let there = latest.segments.iter().map(|segment| (target, segment));
    let all: Vec<_> = there.chain(new.iter().map(|own| (own.part, &own.segment))).collect();
    let key = |folder: &Folder, segment: &Segment| (folder.location().to_owned(), segment.name.clone());
    for (folder, segment) in &all {
        if let Entry::Vacant(place) = known.entry(key(folder, segment)) {
            place.insert(segment.read_ids(folder).await?);
        }
    }
    let mut places: HashMap<&str, &str> = HashMap::new();
    let (mut count, mut ids) = (0, Vec::new());
    for (folder, segment) in all {
        let deleted = segment.read_deleted(folder).await?;
        let own = known.get(&key(folder, segment)).into_iter().flatten().zip(0..);
        for (id, _) in own.filter(|(_, position)| !deleted.contains(*position)) {
            let place = folder.location();
            if let Some(other) = places.insert(id, place) {
                count += 1;
                if ids.len() < TOLD {
                    ids.push(format!("{id:?} (in {other} and {place})"));
                }
            }
        }
    }
    if count == 0 { Ok(()) } else { Err(MergeError::Twice { count, ids }) }
}

/// Copies segments for an epoch, in their order. What an earlier attempt copied for it is there already.
async fn copy_all(target: &Folder, all: &[&Own<'_>], epoch: u64) -> Result<Vec<Segment>, MergeError> {
    let mut segments: Vec<Segment> = all
        .iter()
        .map(|own| {
            let name = Segment::name_of(epoch, &own.identity);
            let moved =
                |file: &FileDigest| FileDigest { path: Segment::moved(&file.path, &name), ..file.clone() };
            let files = own.segment.files.iter().map(moved).collect();
            Segment { entries: own.segment.entries, deleted: None, files, name }
        })
        .collect();
    let files = all.iter().zip(&segments).flat_map(|(own, segment)| {
        let pairs = own.segment.files.iter().zip(&segment.files);
        pairs.map(|(source, file)| (own.part.clone(), source.path.clone(), file.clone()))
    });
    let files: Vec<_> = files.collect();
    stream::iter(files)
        .map(|(part, source, file): (Folder, String, FileDigest)| async move {
            publish::copy(&part, &source, target, &file).await
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect::<()>()
        .await?;
    for (own, segment) in all.iter().zip(&mut segments) {
        if own.segment.deleted.is_some() {
            let positions = own.segment.read_deleted(own.part).await?;
            segment.delete(target, epoch, &positions, BTreeSet::new()).await?;
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use roaring::RoaringBitmap;

    use super::*;
    use crate::epoch::{
        Entry as NewEntry, Metadata, NewEpoch, Value, VectorKind, Vectors, write_empty, write_epoch,
    };

    fn folder(parent: &tempfile::TempDir, name: &str) -> Folder {
        Folder::open(parent.path().join(name).to_str().unwrap()).unwrap()
    }

    /// A knowledge base of entries that begin with `name`.
    async fn part(parent: &tempfile::TempDir, name: &str, count: usize, space: &str) -> Folder {
        let folder = folder(parent, name);
        let entry = |position| NewEntry {
            id: format!("{name}-{position}"),
            caption: format!("{name} {position}"),
            attribution: String::new(),
            metadata: Metadata::from([("place".to_owned(), Value::Number(position as f64))]),
            image: Bytes::from(format!("picture of {name} {position}")),
        };
        let epoch = NewEpoch {
            name: name.to_owned(),
            description: String::new(),
            epoch: 1,
            dimension: 2,
            kind: VectorKind::F32,
            space_digest: space.repeat(64),
            entries: (0..count).map(entry).collect(),
            vectors: Vectors { index: Bytes::from_static(b"an index"), keys: None },
        };
        write_epoch(&folder, epoch).await.unwrap();
        folder
    }

    async fn empty(parent: &tempfile::TempDir) -> Folder {
        let folder = folder(parent, "all");
        let (name, space) = ("all".to_owned(), "a".repeat(64));
        write_empty(&folder, name, String::new(), 2, VectorKind::F32, space).await.unwrap();
        folder
    }

    async fn ids(folder: &Folder) -> Vec<String> {
        let latest = Epochs::new(folder.clone()).latest().await.unwrap();
        let entries = latest.read_entries(folder).await.unwrap();
        assert!(entries.iter().all(|entry| entry.metadata.contains_key("place")));
        entries.into_iter().map(|entry| entry.id).collect()
    }

    #[tokio::test]
    async fn parts_become_one_epoch_and_once_only() {
        let parent = tempfile::tempdir().unwrap();
        let target = empty(&parent).await;
        let (one, two) = (part(&parent, "one", 3, "a").await, part(&parent, "two", 2, "a").await);
        // One of them has lost an entry since it was built.
        let epochs = Epochs::new(one.clone());
        let first = epochs.latest().await.unwrap();
        let mut next = Manifest { epoch: 2, schema: 4, ..first.clone() };
        next.segments[0].delete(&one, 2, &RoaringBitmap::from_iter([1]), BTreeSet::new()).await.unwrap();
        assert_eq!(epochs.commit(&next, &first).await.unwrap(), Commit::Stored);

        let parts = [one.clone(), two.clone()];
        let merged = merge(&target, &parts, false).await.unwrap();
        assert_eq!(merged, Merged { epoch: 2, size: 4, added: 4, before: 0 });
        assert_eq!(ids(&target).await, ["one-0", "one-2", "two-0", "two-1"]);
        let again = merge(&target, &parts, false).await.unwrap();
        assert_eq!(again, Merged { epoch: 2, size: 4, added: 0, before: 4 });
        // One more.
        let three = part(&parent, "three", 1, "a").await;
        let merged = merge(&target, &[two, three], false).await.unwrap();
        assert_eq!(merged, Merged { epoch: 3, size: 5, added: 1, before: 2 });
        assert_eq!(Epochs::new(target).numbers(None).await.unwrap(), [2, 3]);
    }

    #[tokio::test]
    async fn nothing_that_was_deleted_comes_back() {
        let parent = tempfile::tempdir().unwrap();
        let target = empty(&parent).await;
        let parts = [part(&parent, "one", 3, "a").await, part(&parent, "two", 2, "a").await];
        merge(&target, &parts, false).await.unwrap();
        // The first part is gone as a whole, as after all of its entries were deleted, or its segment was written anew.
        let epochs = Epochs::new(target.clone());
        let latest = epochs.latest().await.unwrap();
        let mut next = Manifest { epoch: 3, ..latest.clone() };
        next.segments.remove(0);
        assert_eq!(epochs.commit(&next, &latest).await.unwrap(), Commit::Stored);
        let merged = merge(&target, &parts, false).await.unwrap();
        assert_eq!(merged, Merged { epoch: 3, size: 2, added: 0, before: 5 });
        assert_eq!(ids(&target).await, ["two-0", "two-1"]);
        // Unless somebody wants that.
        let merged = merge(&target, &parts[..1], true).await.unwrap();
        assert_eq!(merged, Merged { epoch: 4, size: 5, added: 3, before: 0 });
    }

    #[tokio::test]
    async fn what_became_void_is_copied_anew() {
        let parent = tempfile::tempdir().unwrap();
        let target = empty(&parent).await;
        let one = part(&parent, "one", 3, "a").await;
        let segment = Epochs::new(one.clone()).latest().await.unwrap().segments[0].clone();
        let own = Own { part: &one, identity: identity(&segment), segment };
        copy_all(&target, &[&own], 2).await.unwrap();
        let epochs = Epochs::new(target.clone());
        let first = epochs.latest().await.unwrap();
        let next = Manifest { epoch: 2, oldest: 2, ..first.clone() };
        assert_eq!(epochs.commit(&next, &first).await.unwrap(), Commit::Stored);
        let merged = merge(&target, std::slice::from_ref(&one), false).await.unwrap();
        assert_eq!((merged.epoch, merged.added), (3, 3));
        assert!(epochs.latest().await.unwrap().segments[0].name.starts_with("000003-"));
    }

    #[tokio::test]
    async fn a_merge_that_was_cut_off_goes_on() {
        let parent = tempfile::tempdir().unwrap();
        let target = empty(&parent).await;
        let one = part(&parent, "one", 3, "a").await;
        let manifest = Epochs::new(one.clone()).latest().await.unwrap();
        let segment = manifest.segments[0].clone();
        let own = Own { part: &one, identity: identity(&segment), segment };
        copy_all(&target, &[&own], 2).await.unwrap();
        assert_eq!(merge(&target, std::slice::from_ref(&one), false).await.unwrap().added, 3);
        assert_eq!(Epochs::new(target).segments().await.unwrap().len(), 1, "what was copied is used");
    }

    #[tokio::test]
    async fn writers_at_once_lose_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let target = empty(&parent).await;
        let mut writers = Vec::new();
        for name in ["one", "two", "three", "four"] {
            let (target, part) = (target.clone(), part(&parent, name, 2, "a").await);
            writers.push(tokio::spawn(async move { merge(&target, &[part], false).await.unwrap().added }));
        }
        for writer in writers {
            assert_eq!(writer.await.unwrap(), 2);
        }
        assert_eq!(ids(&target).await.len(), 8);
    }

    #[tokio::test]
    async fn what_does_not_fit_changes_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let target = empty(&parent).await;
        let one = part(&parent, "one", 3, "a").await;
        let told = async |parts: &[Folder]| merge(&target, parts, false).await.unwrap_err().to_string();
        let other = part(&parent, "other", 1, "b").await;
        assert!(told(&[one.clone(), other]).await.contains("other joint encoders"));
        let elsewhere = tempfile::tempdir().unwrap();
        let same_ids = part(&elsewhere, "one", 2, "a").await;
        let twice = told(&[one.clone(), same_ids.clone()]).await;
        assert!(twice.contains("2 ids occur twice, such as \"one-0\""), "{twice}");
        assert!(Epochs::new(target.clone()).numbers(None).await.unwrap().is_empty());
        merge(&target, &[one], false).await.unwrap();
        assert!(told(&[same_ids]).await.contains("2 ids occur twice"));
        assert_eq!(ids(&target).await.len(), 3);
    }
}
