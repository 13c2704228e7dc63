//! The entries of all segments of an epoch. A key counts through them, and through those that are deleted.

use std::sync::Arc;

use reverie_knowledge::epoch::Entry;

/// Runs of entries, each with the key of its first.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    runs: Vec<(u64, Arc<[Entry]>)>,
    count: u64,
}

impl Entries {
    /// The entries of these runs, one run after another.
    pub(crate) fn of(runs: impl IntoIterator<Item = Arc<[Entry]>>) -> Self {
        let mut entries = Self::default();
        for run in runs {
            let first = entries.count;
            entries.count += run.len() as u64;
            entries.runs.push((first, run));
        }
        entries
    }

    /// The entry of a key, which may be deleted.
    pub(crate) fn get(&self, key: u64) -> Option<&Entry> {
        let run = self.runs.partition_point(|(first, _)| *first <= key).checked_sub(1)?;
        let (first, entries) = self.runs.get(run)?;
        entries.get(usize::try_from(key - first).ok()?)
    }

    /// How many keys there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reverie_knowledge::epoch::Metadata;

    use super::*;

    #[test]
    fn keys_count_through_runs() {
        let run = |ids: &[&str]| -> Arc<[Entry]> {
            let entry = |id: &&str| Entry {
                id: (*id).to_owned(),
                caption: String::new(),
                attribution: String::new(),
                metadata: Metadata::new(),
                image: Bytes::new(),
            };
            ids.iter().map(entry).collect()
        };
        let entries = Entries::of([run(&["a", "b"]), run(&["c"]), run(&["d", "e"])]);
        let ids: Vec<_> =
            (0..6).map(|key| entries.get(key).map_or("none", |entry| entry.id.as_str())).collect();
        assert_eq!((ids, entries.count()), (vec!["a", "b", "c", "d", "e", "none"], 5));
        assert!(Entries::default().get(0).is_none());
    }
}
