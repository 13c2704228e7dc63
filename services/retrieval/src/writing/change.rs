//! What can be changed of a knowledge base, and what a row of changes comes to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use reverie_knowledge::epoch::Label;
use roaring::RoaringBitmap;

use super::rewrite::Rewritten;
use crate::knowledge_base::KnowledgeBase;

/// A change.
#[derive(Debug)]
pub(crate) enum Change {
    /// Entries are stored, in place of those of the same ids.
    Upsert(Vec<NewEntry>),
    /// Entries are deleted and, perhaps, what is stored of them removed.
    Delete { ids: Vec<String>, forget: bool },
    /// A snapshot is made, restored or deleted.
    Snapshot(SnapshotChange),
    /// Segments take the place of others.
    Replace(Rewritten),
    /// Epochs before this one are not needed any more; see [`Manifest::oldest`](reverie_knowledge::epoch::Manifest::oldest).
    Raise { oldest: u64 },
}

/// An entry to be stored, checked.
#[derive(Debug, Clone)]
pub(crate) struct NewEntry {
    pub(crate) label: Label,
    pub(crate) image: Bytes,
    /// Of the image, in the knowledge base's space.
    pub(crate) vector: Vec<f32>,
}

/// A change of a snapshot of this name.
#[derive(Debug)]
pub(crate) enum SnapshotChange {
    Create(String),
    Restore(String),
    Delete(String),
}

/// What a change came to, for its caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) inserted: u32,
    pub(crate) replaced: u32,
    pub(crate) missing: Vec<String>,
    /// Of what is to be forgotten: a file that cannot be read, so that nobody knows whether it has something of it.
    pub(crate) unreadable: Option<String>,
}

impl Change {
    /// Whether it can be stored together with others.
    pub(crate) fn is_of_entries(&self) -> bool {
        matches!(self, Self::Upsert(_) | Self::Delete { .. })
    }

    /// Its entries, and the bytes of their pictures.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Self::Upsert(entries) => (entries.len(), entries.iter().map(|entry| entry.image.len()).sum()),
            Self::Delete { ids, .. } => (ids.len(), 0),
            Self::Snapshot(_) | Self::Replace(_) | Self::Raise { .. } => (0, 0),
        }
    }
}

/// What a row of changes comes to, one after another.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// Entries that are there afterwards, in the order in which they came. They do not depend on what was there before.
    pub(super) stored: Vec<&'a NewEntry>,
    /// Ids of which nothing is to be kept that was there before.
    pub(super) forget: BTreeSet<&'a str>,
    /// By segment, the positions of entries that are there no more.
    pub(super) deleted: BTreeMap<usize, RoaringBitmap>,
    /// What each change came to; of what is to be forgotten, an id is missing that has no entry, though there may be something of it.
    pub(super) told: Vec<Told>,
}

impl<'a> Plan<'a> {
    /// What `changes` of entries come to for `base`.
    pub(super) fn of(base: &KnowledgeBase, changes: &[&'a Change]) -> Self {
        let mut plan = Self::default();
        let mut arrived: Vec<&'a NewEntry> = Vec::new();
        // Of each id that was touched, the entry that is there now, by its place among those that arrived.
        let mut latest: HashMap<&'a str, Option<usize>> = HashMap::new();
        for change in changes {
            let mut told = Told::default();
            match change {
                Change::Upsert(entries) => {
                    for entry in entries {
                        let id = entry.label.id.as_str();
                        let count =
                            if is_there(base, &latest, id) { &mut told.replaced } else { &mut told.inserted };
                        *count += 1;
                        latest.insert(id, Some(arrived.len()));
                        arrived.push(entry);
                    }
                }
                Change::Delete { ids, forget } => {
                    // An id that occurs twice is not missing the second time.
                    let ids: BTreeSet<&String> = ids.iter().collect();
                    for id in ids {
                        if !is_there(base, &latest, id) {
                            told.missing.push(id.clone());
                        }
                        latest.insert(id, None);
                        if *forget {
                            plan.forget.insert(id);
                        }
                    }
                }
                Change::Snapshot(_) | Change::Replace(_) | Change::Raise { .. } => {}
            }
            plan.told.push(told);
        }
        for id in latest.keys() {
            if let Some((segment, position)) = base.key(id).and_then(|key| base.segment_of(key)) {
                plan.deleted.entry(segment).or_default().insert(position);
            }
        }
        let mut stored: Vec<usize> = latest.into_values().flatten().collect();
        stored.sort_unstable();
        plan.stored = stored.into_iter().map(|place| arrived[place]).collect();
        plan
    }

    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.deleted.is_empty() && self.forget.is_empty()
    }
}

fn is_there(base: &KnowledgeBase, latest: &HashMap<&str, Option<usize>>, id: &str) -> bool {
    latest.get(id).map_or_else(|| base.key(id).is_some(), Option::is_some)
}
