//! The vectors of one segment: in memory, or in an engine elsewhere ([`crate::milvus`]).

use std::fmt::Debug;

use reverie_knowledge::epoch::Segment;
use reverie_knowledge::index::{IndexError, Searches, SegmentIndex};
use reverie_knowledge::{Hit, UnitVector};
use reverie_service_kit::Context;
use reverie_storage::Folder;
use roaring::RoaringBitmap;

use crate::CollectionError;

/// How something is searched for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms<'a> {
    /// How many entries are wanted.
    pub(crate) limit: usize,
    /// Those that may be found; none for all.
    pub(crate) allowed: Option<&'a RoaringBitmap>,
    /// Whether none may be missed.
    pub(crate) is_exact: bool,
    /// Who waits, and until when.
    pub(crate) context: Context,
}

impl Terms<'_> {
    /// The `limit` nearest of all.
    pub(crate) fn nearest(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }
}

/// The vectors of one segment, by their positions in it. Every method blocks.
pub(crate) trait SegmentVectors: Debug + Send + Sync {
    /// For each query at least the entries that are wanted, if there are so many, in no order.
    fn search(&self, queries: &[UnitVector], terms: Terms<'_>) -> Result<Vec<Vec<Hit>>, CollectionError>;

    /// How many queries are best given to one [`Self::search`].
    fn at_once(&self) -> usize;

    /// The vectors of these entries, of unit length, in their order; none where there is no such entry.
    fn vectors(&self, positions: &[u64], context: Context) -> Result<Vec<Option<Vec<f32>>>, CollectionError>;

    /// Whether all of them are still there, ready to be searched.
    fn are_there(&self) -> bool;

    /// Memory of this process that they take, bytes.
    fn memory_bytes(&self) -> u64;
}

/// Reads the index of a segment.
pub(crate) async fn read_index(
    folder: &Folder,
    segment: &Segment,
    dimension: u32,
    searches: Searches,
) -> Result<SegmentIndex, CollectionError> {
    let (vectors, entries) = (segment.read_vectors(folder).await?, segment.entries);
    let load = move || SegmentIndex::load(&vectors, entries, dimension, searches);
    tokio::task::spawn_blocking(load).await?.map_err(|error| match error {
        IndexError::Different(why) => CollectionError::Index { segment: segment.name.clone(), why },
        error => error.into(),
    })
}

/// In memory, searched with usearch.
#[derive(Debug)]
pub(crate) struct InMemory {
    pub(crate) index: SegmentIndex,
    /// Searched exactly if the different vectors have at most so many bytes.
    pub(crate) exact_bytes: usize,
}

impl SegmentVectors for InMemory {
    fn search(&self, queries: &[UnitVector], terms: Terms<'_>) -> Result<Vec<Vec<Hit>>, CollectionError> {
        let exact_bytes = if terms.is_exact { usize::MAX } else { self.exact_bytes };
        let search = |query| Ok(self.index.search(query, terms.limit, exact_bytes, terms.allowed)?);
        queries.iter().map(search).collect()
    }

    /// It is looked between two whether somebody still waits.
    fn at_once(&self) -> usize {
        1
    }

    fn vectors(&self, positions: &[u64], _: Context) -> Result<Vec<Option<Vec<f32>>>, CollectionError> {
        positions.iter().map(|position| Ok(self.index.vector(*position)?)).collect()
    }

    fn are_there(&self) -> bool {
        true
    }

    fn memory_bytes(&self) -> u64 {
        self.index.memory_bytes() as u64
    }
}
