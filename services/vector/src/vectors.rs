//! The vectors of one segment: in memory, or in an engine elsewhere ([`crate::milvus`]).

use std::fmt::Debug;

use reverie_knowledge::index::SegmentIndex;
use reverie_knowledge::{Hit, UnitVector};
use roaring::RoaringBitmap;

use crate::CollectionError;

/// The vectors of one segment, by their positions in it. Every method blocks.
pub(crate) trait SegmentVectors: Debug + Send + Sync {
    /// At least the `limit` entries nearest to `query`, if there are so many, in no order; only those in `allowed`, if it is given. None
    /// is missed if `is_exact`.
    fn search(
        &self,
        query: &UnitVector,
        limit: usize,
        allowed: Option<&RoaringBitmap>,
        is_exact: bool,
    ) -> Result<Vec<Hit>, CollectionError>;

    /// The vectors of these entries, of unit length, in their order; none where there is no such entry.
    fn vectors(&self, positions: &[u64]) -> Result<Vec<Option<Vec<f32>>>, CollectionError>;

    /// Memory of this process that they take, bytes.
    fn memory_bytes(&self) -> u64;
}

/// In memory, searched with usearch.
#[derive(Debug)]
pub(crate) struct InMemory {
    pub(crate) index: SegmentIndex,
    /// Searched exactly if the different vectors have at most so many bytes.
    pub(crate) exact_bytes: usize,
}

impl SegmentVectors for InMemory {
    fn search(
        &self,
        query: &UnitVector,
        limit: usize,
        allowed: Option<&RoaringBitmap>,
        is_exact: bool,
    ) -> Result<Vec<Hit>, CollectionError> {
        let exact_bytes = if is_exact { usize::MAX } else { self.exact_bytes };
        Ok(self.index.search(query, limit, exact_bytes, allowed)?)
    }

    fn vectors(&self, positions: &[u64]) -> Result<Vec<Option<Vec<f32>>>, CollectionError> {
        positions.iter().map(|position| Ok(self.index.vector(*position)?)).collect()
    }

    fn memory_bytes(&self) -> u64 {
        self.index.memory_bytes() as u64
    }
}
