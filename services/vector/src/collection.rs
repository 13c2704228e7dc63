//! A collection: the vectors of one epoch, searched by cosine similarity.
//!
//! usearch takes its files on trust (a flipped byte in a graph crashes the process in a later search), so only bytes that
//! were verified against the manifest are loaded. An index is written by one thread and never changes afterwards.

use bytes::Bytes;
use reverie_storage::Folder;
use reverie_storage::knowledge::{Manifest, Segment};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use crate::CollectionError;

/// Segments up to this size are searched exactly: it takes well under a millisecond and misses nothing.
const EXACT_UP_TO: usize = 10_000;

/// A vector of unit length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UnitVector(Vec<f32>);

impl UnitVector {
    /// Scales `vector` to unit length, so that no magnitude overflows in the index. `Err` says what is wrong with it.
    pub(crate) fn new(vector: &[f32], dimension: u32) -> Result<Self, String> {
        if vector.len() != dimension as usize {
            return Err(format!("must have {dimension} elements, not {}", vector.len()));
        }
        if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
            return Err(format!("must be finite, element {position} is not"));
        }
        let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err("must not be all zeros: it has no direction".to_owned());
        }
        Ok(Self(vector.iter().map(|&value| (f64::from(value) / length) as f32).collect()))
    }
}

/// An entry and how near it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    /// Position in the knowledge base's entry list.
    pub(crate) key: u64,
    /// Cosine similarity, -1 to 1.
    pub(crate) score: f32,
}

/// The vectors of one epoch, in memory.
pub(crate) struct Collection {
    manifest: Manifest,
    parts: Vec<Part>,
}

/// A segment's index; its keys count from `first`.
struct Part {
    first: u64,
    index: Index,
}

impl Collection {
    /// Loads the epoch at `location`, which must be of the knowledge base `name`, for at most `threads` searches at a time.
    pub(crate) async fn open(name: &str, location: &str, threads: usize) -> Result<Self, CollectionError> {
        let folder = Folder::open(location)?;
        let manifest = Manifest::read(&folder).await?;
        if manifest.name != name {
            return Err(CollectionError::Name { found: manifest.name });
        }
        let mut parts = Vec::new();
        let mut first = 0;
        for segment in &manifest.segments {
            let bytes = segment.read_vectors(&folder).await?;
            let (expected, dimension) = (segment.clone(), manifest.dimension);
            let index = tokio::task::spawn_blocking(move || load(&bytes, &expected, dimension, threads))
                .await
                .map_err(|error| CollectionError::engine(&error))??;
            parts.push(Part { first, index });
            first += segment.entries;
        }
        Ok(Self { manifest, parts })
    }

    /// The knowledge base's name.
    pub(crate) fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The epoch that is loaded.
    pub(crate) fn epoch(&self) -> u64 {
        self.manifest.epoch
    }

    /// Number of vectors.
    pub(crate) fn size(&self) -> u64 {
        self.manifest.entries()
    }

    /// Length of each vector.
    pub(crate) fn dimension(&self) -> u32 {
        self.manifest.dimension
    }

    /// SHA-256 of the encoder that made the vectors.
    pub(crate) fn space_digest(&self) -> &str {
        &self.manifest.space_digest
    }

    /// The `limit` entries nearest to `query`, best first; the lower position wins a tie. Blocking.
    pub(crate) fn search(&self, query: &UnitVector, limit: usize) -> Result<Vec<Hit>, CollectionError> {
        let mut hits = Vec::new();
        for Part { first, index } in &self.parts {
            let count = limit.min(index.size());
            let found = if index.size() <= EXACT_UP_TO {
                index.exact_search(&query.0, count)
            } else {
                index.search(&query.0, count)
            }
            .map_err(|error| CollectionError::engine(&error))?;
            let found = found.keys.iter().zip(&found.distances);
            hits.extend(
                found.map(|(key, distance)| Hit {
                    key: first + key,
                    score: (1.0 - distance).clamp(-1.0, 1.0),
                }),
            );
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.key.cmp(&b.key)));
        hits.truncate(limit);
        Ok(hits)
    }
}

/// Builds the index file of a segment from its vectors, one a row, in entry order. One thread writes: concurrent insertion
/// can leave entries that no search reaches. Blocking.
pub fn build_index(dimension: u32, rows: &[Vec<f32>]) -> Result<Bytes, CollectionError> {
    let index = Index::new(&options(dimension)).map_err(|error| CollectionError::engine(&error))?;
    index.reserve(rows.len()).map_err(|error| CollectionError::engine(&error))?;
    for (position, row) in rows.iter().enumerate() {
        let vector =
            UnitVector::new(row, dimension).map_err(|why| CollectionError::Vector { position, why })?;
        index.add(position as u64, &vector.0).map_err(|error| CollectionError::engine(&error))?;
    }
    let mut bytes = vec![0; index.serialized_length()];
    index.save_to_buffer(&mut bytes).map_err(|error| CollectionError::engine(&error))?;
    Ok(bytes.into())
}

/// Loads verified bytes and checks that they are the index of `segment`.
fn load(bytes: &[u8], segment: &Segment, dimension: u32, threads: usize) -> Result<Index, CollectionError> {
    let wrong = |why: String| CollectionError::Index { segment: segment.name.clone(), why };
    // Loading silently overrides the options of an index, so its header is looked at first.
    let header = Index::metadata_from_buffer(bytes).map_err(|error| wrong(error.to_string()))?;
    if header.dimensions != u64::from(dimension) {
        return Err(wrong(format!("its dimension is {}, not {dimension}", header.dimensions)));
    }
    if header.count_present != segment.entries || header.count_deleted != 0 {
        return Err(wrong(format!("it has {} vectors, not {}", header.count_present, segment.entries)));
    }
    if header.metric != MetricKind::Cos || header.quantization != ScalarKind::F32 || header.multi {
        return Err(wrong("it is not made for the cosine of f32 vectors, one an entry".to_owned()));
    }
    let index = Index::new(&options(dimension)).map_err(|error| CollectionError::engine(&error))?;
    index.load_from_buffer(bytes).map_err(|error| wrong(error.to_string()))?;
    // One place for each search at a time; a search without one fails.
    index
        .reserve_capacity_and_threads(index.size(), threads)
        .map_err(|error| CollectionError::engine(&error))?;
    if let Some(missing) = (0..segment.entries).find(|&key| !index.contains(key)) {
        return Err(wrong(format!("it has no vector of entry {missing}")));
    }
    Ok(index)
}

fn options(dimension: u32) -> IndexOptions {
    IndexOptions {
        dimensions: dimension as usize,
        metric: MetricKind::Cos,
        quantization: ScalarKind::F32,
        multi: false,
        ..IndexOptions::default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use reverie_storage::knowledge::{Entry, NewEpoch, write_epoch};

    use super::*;

    /// Writes a knowledge base "shapes" of these vectors, with the index file `vectors`.
    pub(crate) async fn write(location: &str, rows: &[Vec<f32>], dimension: u32, vectors: Bytes) {
        let entries = (0..rows.len())
            .map(|position| Entry {
                id: format!("shape-{position}"),
                caption: format!("shape {position}"),
                attribution: String::new(),
                image: Bytes::from_static(b"picture"),
            })
            .collect();
        let epoch = NewEpoch {
            name: "shapes".to_owned(),
            description: "shapes".to_owned(),
            epoch: 7,
            dimension,
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

    async fn open(rows: &[Vec<f32>], dimension: u32, vectors: Bytes) -> Result<Collection, CollectionError> {
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().to_str().unwrap();
        write(location, rows, dimension, vectors).await;
        Collection::open("shapes", location, 4).await
    }

    #[tokio::test]
    async fn the_nearest_come_first() {
        let rows = circle(100, 8);
        let collection = open(&rows, 8, build_index(8, &rows).unwrap()).await.unwrap();
        let query = UnitVector::new(&rows[10].iter().map(|x| x * 1e30).collect::<Vec<_>>(), 8).unwrap();
        let hits = collection.search(&query, 5).unwrap();
        assert_eq!(hits[0].key, 10);
        assert!((hits[0].score - 1.0).abs() < 1e-5);
        let mut nearest: Vec<_> = hits.iter().map(|hit| hit.key).collect();
        nearest.sort_unstable();
        assert_eq!(nearest, [8, 9, 10, 11, 12]);
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
        assert_eq!(collection.search(&query, 1000).unwrap().len(), 100);
        let opposite = collection.search(&query, 100).unwrap()[99];
        assert_eq!(opposite.key, 60);
        assert!((opposite.score + 1.0).abs() < 1e-5);
    }

    #[tokio::test]
    async fn equal_vectors_are_told_in_entry_order() {
        let rows = vec![vec![1.0, 0.0]; 6];
        let collection = open(&rows, 2, build_index(2, &rows).unwrap()).await.unwrap();
        let hits = collection.search(&UnitVector::new(&rows[0], 2).unwrap(), 6).unwrap();
        assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn as_many_searches_at_a_time_as_were_reserved() {
        let rows = circle(200, 8);
        let collection = open(&rows, 8, build_index(8, &rows).unwrap()).await.unwrap();
        let query = UnitVector::new(&rows[3], 8).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        assert_eq!(collection.search(&query, 3).unwrap()[0].key, 3);
                    }
                });
            }
        });
    }

    #[tokio::test]
    async fn an_index_that_differs_from_the_manifest_is_refused() {
        let rows = circle(10, 8);
        let fewer = build_index(8, &rows[..9]).unwrap();
        let error = open(&rows, 8, fewer).await.err().unwrap().to_string();
        assert!(error.contains("9 vectors, not 10"), "{error}");
        let shorter = build_index(4, &circle(10, 4)).unwrap();
        assert!(matches!(open(&rows, 8, shorter).await, Err(CollectionError::Index { .. })));
        let nonsense =
            Bytes::from_static(b"not an index at all, but long enough to hold a header of sixty-four bytes");
        assert!(matches!(open(&rows, 8, nonsense).await, Err(CollectionError::Index { .. })));
    }

    #[tokio::test]
    async fn an_altered_byte_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().to_str().unwrap();
        let rows = circle(10, 8);
        write(location, &rows, 8, build_index(8, &rows).unwrap()).await;
        let file = directory.path().join("segments/000001/vectors.usearch");
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = Collection::open("shapes", location, 1).await.err().unwrap().to_string();
        assert!(error.contains("vectors.usearch is damaged"), "{error}");
        let other = Collection::open("creatures", location, 1).await.err().unwrap().to_string();
        assert!(other.contains("shapes"), "{other}");
    }

    #[test]
    fn vectors_without_a_direction_are_refused() {
        for row in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0], vec![1.0]] {
            let error = build_index(2, &[vec![1.0, 0.0], row]);
            assert!(matches!(error, Err(CollectionError::Vector { position: 1, .. })));
        }
    }
}
