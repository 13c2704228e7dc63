//! A collection: the vectors of one epoch, searched by cosine similarity.

use std::borrow::Cow;
use std::slice;
use std::sync::Arc;

use reverie_knowledge::epoch::{Manifest, Segment};
use reverie_knowledge::index::cosine;
use reverie_knowledge::{Hit, UnitVector};
use reverie_service_kit::Context;
use roaring::RoaringBitmap;

use crate::CollectionError;
use crate::milvus::Held;
use crate::vectors::{SegmentVectors, Terms};

/// The vectors of one epoch.
#[derive(Debug)]
pub(crate) struct Collection {
    manifest: Manifest,
    content_digest: String,
    parts: Vec<Part>,
    /// Keeps what it has in Milvus.
    _held: Option<Held>,
}

/// A segment's vectors; its keys count from `first`.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) first: u64,
    pub(crate) segment: Segment,
    pub(crate) vectors: Arc<dyn SegmentVectors>,
    /// Its entries that are not deleted; none if all of them are there.
    pub(crate) present: Option<Arc<RoaringBitmap>>,
}

impl Part {
    /// The entries that a search may find, counted from its first; none for all.
    fn own<'a>(&'a self, allowed: Option<&'a RoaringBitmap>) -> Option<Cow<'a, RoaringBitmap>> {
        let Some(allowed) = allowed else { return self.present.as_deref().map(Cow::Borrowed) };
        let end = self.first + self.segment.entries;
        let own = if self.first == 0 && allowed.max().is_none_or(|last| u64::from(last) < end) {
            Cow::Borrowed(allowed)
        } else {
            // Keys are of 32 bits: what begins beyond them has none.
            let bound = |key: u64| u32::try_from(key).ok();
            let Some(first) = bound(self.first) else { return Some(Cow::Owned(RoaringBitmap::new())) };
            let keys = allowed.range(first..=bound(end - 1).unwrap_or(u32::MAX));
            Cow::Owned(keys.map(|key| key - first).collect())
        };
        Some(match self.present.as_deref() {
            Some(present) => Cow::Owned(&*own & present),
            None => own,
        })
    }
}

impl Collection {
    /// Of an epoch with these segments, in their order, which has what is `held` in Milvus.
    pub(crate) fn new(manifest: Manifest, parts: Vec<Part>, held: Option<Held>) -> Self {
        Self { content_digest: manifest.content_digest(), manifest, parts, _held: held }
    }

    /// Its segments.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What is known of it.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The identity of what it holds.
    pub(crate) fn content_digest(&self) -> &str {
        &self.content_digest
    }

    /// How many queries are best given to one [`Self::search_all`].
    pub(crate) fn at_once(&self) -> usize {
        self.parts.iter().map(|part| part.vectors.at_once()).min().unwrap_or(1)
    }

    /// The entries nearest to `query`, best first; the lower position wins a tie. Blocking.
    pub(crate) fn search(&self, query: &UnitVector, terms: Terms<'_>) -> Result<Vec<Hit>, CollectionError> {
        Ok(self.search_all(slice::from_ref(query), terms)?.pop().unwrap_or_default())
    }

    /// The same for each of several.
    pub(crate) fn search_all(
        &self,
        queries: &[UnitVector],
        terms: Terms<'_>,
    ) -> Result<Vec<Vec<Hit>>, CollectionError> {
        let mut all = vec![Vec::new(); queries.len()];
        for part in &self.parts {
            let own = part.own(terms.allowed);
            let found = part.vectors.search(queries, Terms { allowed: own.as_deref(), ..terms })?;
            for (hits, found) in all.iter_mut().zip(found) {
                hits.extend(found.into_iter().map(|hit| Hit { key: part.first + hit.key, ..hit }));
            }
        }
        for hits in &mut all {
            hits.sort_by(Hit::best_first);
            hits.truncate(terms.limit);
        }
        Ok(all)
    }

    /// Memory of the vectors and their graphs, bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.vectors.memory_bytes()).sum()
    }

    /// A point between the vectors of two entries, three tenths of the way; none if one of them has none. Blocking.
    pub(crate) fn between(
        &self,
        one: u64,
        other: u64,
        context: Context,
    ) -> Result<Option<UnitVector>, CollectionError> {
        let [Some(one), Some(other)] = &self.vectors(&[one, other], context)?[..] else { return Ok(None) };
        let between: Vec<f32> = one.iter().zip(other).map(|(one, other)| 0.7 * one + 0.3 * other).collect();
        Ok(UnitVector::new(&between, self.manifest.dimension).ok())
    }

    /// The cosine similarities of each of `keys` with those before it. Blocking.
    pub(crate) fn compare(&self, keys: &[u64], context: Context) -> Result<Vec<f32>, CollectionError> {
        let vectors = keys.iter().zip(self.vectors(keys, context)?);
        let vectors = vectors.map(|(&key, vector)| vector.ok_or(CollectionError::Missing { key }));
        let vectors = vectors.collect::<Result<Vec<_>, _>>()?;
        let mut similarities = Vec::with_capacity(keys.len() * keys.len().saturating_sub(1) / 2);
        for (place, vector) in vectors.iter().enumerate() {
            similarities.extend(vectors[..place].iter().map(|other| cosine(other, vector)));
        }
        Ok(similarities)
    }

    /// The vectors of these entries, of unit length, in their order; none where there is no such entry.
    fn vectors(&self, keys: &[u64], context: Context) -> Result<Vec<Option<Vec<f32>>>, CollectionError> {
        let mut all = vec![None; keys.len()];
        for part in &self.parts {
            let own = part.first..part.first + part.segment.entries;
            let (places, positions): (Vec<usize>, Vec<u64>) = keys
                .iter()
                .enumerate()
                .filter(|(_, key)| own.contains(key))
                .map(|(place, key)| (place, key - part.first))
                .unzip();
            if positions.is_empty() {
                continue;
            }
            for (place, vector) in places.into_iter().zip(part.vectors.vectors(&positions, context)?) {
                all[place] = vector;
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use reverie_knowledge::Read as _;
    use reverie_knowledge::epoch::{Entry, Metadata, NewEpoch, VectorKind, Vectors, write_epoch};
    use reverie_knowledge::index::{Searches, SegmentIndex, build_index};
    use reverie_storage::Folder;

    use super::*;
    use crate::reader::{Backend, Reader};
    use crate::vectors::InMemory;

    const EXACT: usize = 64 << 20;

    /// Writes a knowledge base "shapes" of these vectors, with the index file `vectors`.
    pub(crate) async fn write(location: &str, rows: &[Vec<f32>], dimension: u32, vectors: Vectors) {
        let entries = (0..rows.len())
            .map(|position| Entry {
                id: format!("shape-{position}"),
                caption: format!("shape {position}"),
                attribution: String::new(),
                metadata: Metadata::new(),
                image: Bytes::from_static(b"picture"),
            })
            .collect();
        let epoch = NewEpoch {
            name: "shapes".to_owned(),
            description: "shapes".to_owned(),
            epoch: 7,
            dimension,
            kind: VectorKind::F32,
            space_digest: "a".repeat(64),
            entries,
            vectors,
        };
        write_epoch(&Folder::open(location).unwrap(), epoch).await.unwrap();
    }

    /// `count` directions that go around a circle in the first two dimensions.
    pub(crate) fn circle(count: usize, dimension: usize) -> Vec<Vec<f32>> {
        (0..count)
            .map(|position| {
                let angle = position as f32 / count as f32 * std::f32::consts::TAU;
                let mut row = vec![0.0; dimension];
                (row[0], row[1]) = (angle.cos(), angle.sin());
                row
            })
            .collect()
    }

    async fn read(name: &str, location: &str) -> Result<Collection, CollectionError> {
        let folder = Folder::open(location).unwrap();
        let manifest = Manifest::read(&folder).await?;
        let searches = Searches { threads: 4, ..Searches::ONE };
        let reader = Reader::new(name, Backend::Usearch { searches, exact_bytes: EXACT });
        reader.read(&folder, manifest, None).await
    }

    async fn open(
        rows: &[Vec<f32>],
        dimension: u32,
        vectors: Vectors,
    ) -> Result<Collection, CollectionError> {
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().to_str().unwrap();
        write(location, rows, dimension, vectors).await;
        read("shapes", location).await
    }

    #[tokio::test]
    async fn the_nearest_come_first() {
        let rows = circle(100, 8);
        let collection = open(&rows, 8, build_index(8, VectorKind::F32, &rows, 1).unwrap()).await.unwrap();
        let query = UnitVector::new(&rows[10].iter().map(|x| x * 1e30).collect::<Vec<_>>(), 8).unwrap();
        let hits = collection.search(&query, Terms::nearest(5)).unwrap();
        assert_eq!(hits[0].key, 10);
        assert!((hits[0].score - 1.0).abs() < 1e-5);
        let mut nearest: Vec<_> = hits.iter().map(|hit| hit.key).collect();
        nearest.sort_unstable();
        assert_eq!(nearest, [8, 9, 10, 11, 12]);
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
        assert_eq!(collection.search(&query, Terms::nearest(1000)).unwrap().len(), 100);
        let opposite = collection.search(&query, Terms::nearest(100)).unwrap()[99];
        assert_eq!(opposite.key, 60);
        assert!((opposite.score + 1.0).abs() < 1e-5);
    }

    #[tokio::test]
    async fn equal_vectors_are_told_in_entry_order() {
        let rows = vec![vec![1.0, 0.0]; 6];
        let collection = open(&rows, 2, build_index(2, VectorKind::F32, &rows, 1).unwrap()).await.unwrap();
        let hits = collection.search(&UnitVector::new(&rows[0], 2).unwrap(), Terms::nearest(6)).unwrap();
        assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn each_segment_looks_for_its_own_keys() {
        let rows = circle(4, 2);
        let index =
            SegmentIndex::load(&build_index(2, VectorKind::F32, &rows, 1).unwrap(), 4, 2, Searches::ONE)
                .unwrap();
        let segment = Segment { name: "1".to_owned(), entries: 4, deleted: None, files: Vec::new() };
        let vectors = Arc::new(InMemory { index, exact_bytes: EXACT });
        let mut part = Part { first: 0, segment, vectors, present: None };
        let allowed = RoaringBitmap::from_iter([1, 3, 4, 7, 8, u32::MAX]);
        assert_eq!(part.own(Some(&allowed)).unwrap().iter().collect::<Vec<_>>(), [1, 3]);
        part.first = 4;
        assert_eq!(part.own(Some(&allowed)).unwrap().iter().collect::<Vec<_>>(), [0, 3]);
        part.first = u64::from(u32::MAX) - 1;
        assert_eq!(part.own(Some(&allowed)).unwrap().iter().collect::<Vec<_>>(), [1]);
        part.first = u64::from(u32::MAX) + 1;
        assert!(part.own(Some(&allowed)).unwrap().is_empty());
        assert!(part.own(None).is_none());
    }

    #[tokio::test]
    async fn as_many_searches_at_a_time_as_were_reserved() {
        let rows = circle(200, 8);
        let collection = open(&rows, 8, build_index(8, VectorKind::F32, &rows, 1).unwrap()).await.unwrap();
        let query = UnitVector::new(&rows[3], 8).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        assert_eq!(collection.search(&query, Terms::nearest(3)).unwrap()[0].key, 3);
                    }
                });
            }
        });
    }

    #[tokio::test]
    async fn an_index_that_differs_from_the_manifest_is_refused() {
        let rows = circle(10, 8);
        let fewer = build_index(8, VectorKind::F32, &rows[..9], 1).unwrap();
        let error = open(&rows, 8, fewer).await.err().unwrap().to_string();
        assert!(error.contains("9 vectors, not 10"), "{error}");
        let shorter = build_index(4, VectorKind::F32, &circle(10, 4), 1).unwrap();
        assert!(matches!(open(&rows, 8, shorter).await, Err(CollectionError::Index { .. })));
        let nonsense =
            Bytes::from_static(b"not an index at all, but long enough to hold a header of sixty-four bytes");
        let nonsense = Vectors { index: nonsense, keys: None };
        assert!(matches!(open(&rows, 8, nonsense).await, Err(CollectionError::Index { .. })));
        // As many vectors as keys, but of other entries.
        let alike = [rows[0].clone(), rows[1].clone(), rows[0].clone()];
        let Vectors { index, keys } = build_index(8, VectorKind::F32, &alike, 1).unwrap();
        assert_eq!(keys, Some(vec![0, 1, 0]));
        let swapped = Vectors { index, keys: Some(vec![0, 0, 2]) };
        let error = open(&alike, 8, swapped).await.err().unwrap().to_string();
        assert!(error.contains("no vector of entry 2"), "{error}");
    }

    #[tokio::test]
    async fn an_altered_byte_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().to_str().unwrap();
        let rows = circle(10, 8);
        write(location, &rows, 8, build_index(8, VectorKind::F32, &rows, 1).unwrap()).await;
        let file = directory.path().join("segments/000001/vectors.usearch");
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = read("shapes", location).await.err().unwrap().to_string();
        assert!(error.contains("vectors.usearch is damaged"), "{error}");
        let other = read("creatures", location).await.err().unwrap().to_string();
        assert!(other.contains("shapes"), "{other}");
    }
}
