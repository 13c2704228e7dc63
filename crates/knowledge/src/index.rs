//! The index of a segment: each of its vectors once, and which entries have it.
//!
//! usearch takes its files on trust (a flipped byte in a graph crashes the process in a later search), so only bytes that
//! were verified against the manifest are loaded. An index never changes after it was built.
//!
//! A graph of many equal vectors is a trap: they are each other's nearest neighbours, and a search that comes among them finds
//! no way out. So equal vectors are indexed once. Nearly equal ones are a weaker trap, against which the graph has more links
//! and looks further than usearch's defaults, and is built in an order that has nothing to do with the entries' own.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use roaring::RoaringBitmap;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use crate::epoch::{VectorKind, Vectors};
use crate::{Hit, UnitVector};

/// Links of a vector in the graph.
const LINKS: usize = 48;
/// Vectors that are looked at to find a new one's links.
const LOOKED_AT_TO_LINK: usize = 512;
/// Vectors that are looked at to find out whether a search finds one.
const LOOKED_AT_TO_CHECK: usize = 128;
/// Cosines of f32 that are computed in different orders differ by less.
const ROUNDING: f32 = 1e-5;
/// Vectors for which it is worth while that several threads build a graph.
const MANY: usize = 10_000;

/// How an index is searched.
#[derive(Debug, Clone, Copy)]
pub struct Searches {
    /// Searches at a time at most, each of which takes some 64 KiB.
    pub threads: usize,
    /// Vectors that a search along the graph keeps in view, at least (`ef` of Malkov and Yashunin, "Efficient and robust approximate nearest
    /// neighbor search using Hierarchical Navigable Small World graphs", algorithm 5): more are slower, and miss less.
    pub expansion: usize,
}

impl Searches {
    /// One at a time.
    pub const ONE: Self = Self { threads: 1, expansion: 512 };
}

/// Why vectors cannot be indexed or searched.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A vector cannot be indexed.
    #[error("vector {position} {why}")]
    Vector {
        /// Its position.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes are not the index that they should be.
    #[error("{0}")]
    Different(String),
    /// The system gave no memory for it: it may later.
    #[error("there is no memory for the index of the vectors")]
    NoMemory,
    /// The index failed.
    #[error("the index failed: {0}")]
    Engine(String),
}

impl IndexError {
    fn engine(error: &dyn std::fmt::Display) -> Self {
        let told = error.to_string();
        // usearch tells it in words alone, as does the standard library of C++.
        let words = ["out of memory", "no memory", "allocat", "reserve memory", "bad_alloc"];
        let lower = told.to_lowercase();
        if words.iter().any(|words| lower.contains(words)) { Self::NoMemory } else { Self::Engine(told) }
    }

    /// Of bytes that usearch does not take.
    fn unreadable(error: &dyn std::fmt::Display) -> Self {
        match Self::engine(error) {
            Self::Engine(told) => Self::Different(told),
            other => other,
        }
    }
}

/// Which entries of a segment have equal vectors. Each different vector is stored once, under the *key* that is the position of the first
/// entry that has it.
#[derive(Debug, Default)]
pub struct EqualVectors {
    /// By key, the positions of all entries that have its vector, where there are several.
    shared: BTreeMap<u64, Vec<u64>>,
    /// The key of each position that has not its own.
    keys: HashMap<u64, u64>,
}

impl EqualVectors {
    /// Of the keys of all entries, by position; `None` if all vectors differ.
    pub fn of(keys: Option<&[u64]>) -> Self {
        let mut shared: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (position, &key) in (0..).zip(keys.unwrap_or_default()) {
            shared.entry(key).or_default().push(position);
        }
        shared.retain(|_, positions| positions.len() > 1);
        let others = shared.iter().flat_map(|(&key, positions)| positions.iter().map(move |&one| (one, key)));
        let keys = others.filter(|(position, key)| position != key).collect();
        Self { shared, keys }
    }

    /// The key of the vector of the entry at `position`.
    pub fn key(&self, position: u64) -> u64 {
        self.keys.get(&position).copied().unwrap_or(position)
    }

    /// Whether a position is the key of its vector.
    pub fn is_key(&self, position: u64) -> bool {
        !self.keys.contains_key(&position)
    }

    /// How many entries have the vector of one before them.
    pub fn repeated(&self) -> u64 {
        self.keys.len() as u64
    }

    /// The entries that have the vectors `found`, by key; at most `limit` of each, and only those in `allowed`, if it is given.
    pub fn entries(
        &self,
        found: impl IntoIterator<Item = Hit>,
        limit: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Vec<Hit> {
        let mut hits = Vec::with_capacity(limit);
        for Hit { key, score } in found {
            let positions =
                self.positions(&key).iter().filter(|&&one| allowed.is_none_or(|all| has(all, one)));
            hits.extend(positions.take(limit).map(|&key| Hit { key, score }));
        }
        hits
    }

    /// The entries that have the vector of a key.
    fn positions<'a>(&'a self, key: &'a u64) -> &'a [u64] {
        self.shared.get(key).map_or(std::slice::from_ref(key), Vec::as_slice)
    }
}

/// A segment's index, in memory.
pub struct SegmentIndex {
    index: Index,
    /// Bytes of a number.
    width: usize,
    equal: EqualVectors,
}

impl std::fmt::Debug for SegmentIndex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SegmentIndex").field("vectors", &self.index.size()).finish_non_exhaustive()
    }
}

impl SegmentIndex {
    /// Loads verified vectors of `entries` entries. Blocking.
    pub fn load(
        vectors: &Vectors,
        entries: u64,
        dimension: u32,
        searches: Searches,
    ) -> Result<Self, IndexError> {
        let equal = EqualVectors::of(vectors.keys.as_deref());
        let (index, kind) = load(&vectors.index, entries - equal.repeated(), dimension, searches)?;
        let mut keys = (0..entries).map(|position| equal.key(position));
        if let Some(missing) = keys.find(|&key| !index.contains(key)) {
            return Err(IndexError::Different(format!("it has no vector of entry {missing}")));
        }
        Ok(Self { index, width: kind.bytes(), equal })
    }

    /// At least the `limit` entries nearest to `query`, if there are so many, in no order; only those in `allowed`, if it is given.
    /// Exact if the different vectors, or those of the allowed entries, have at most `exact_bytes`. Blocking.
    pub fn search(
        &self,
        query: &UnitVector,
        limit: usize,
        exact_bytes: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<Vec<Hit>, IndexError> {
        let count = limit.min(self.index.size());
        let is_small = |vectors: usize| vectors * self.index.dimensions() * self.width <= exact_bytes;
        let found = match allowed {
            Some(allowed) if is_small(allowed.len() as usize) => return self.look_at(query, limit, allowed),
            Some(allowed) => {
                let is_allowed = |key| self.equal.positions(&key).iter().any(|&one| has(allowed, one));
                self.index.filtered_search(query.values(), count, is_allowed)
            }
            None if is_small(self.index.size()) => self.index.exact_search(query.values(), count),
            None => self.index.search(query.values(), count),
        };
        let found = found.map_err(|error| IndexError::engine(&error))?;
        let hit = |(&key, distance): (&u64, &f32)| Hit { key, score: (1.0 - distance).clamp(-1.0, 1.0) };
        Ok(self.equal.entries(found.keys.iter().zip(&found.distances).map(hit), limit, allowed))
    }

    /// Sets how many vectors a search along the graph keeps in view.
    pub fn set_expansion(&mut self, expansion: usize) {
        self.index.change_expansion_search(expansion);
    }

    /// Memory of the vectors and their graph.
    pub fn memory_bytes(&self) -> usize {
        self.index.memory_usage()
    }

    /// The vector of the entry at `position`, of unit length; none if there is no such entry.
    pub fn vector(&self, position: u64) -> Result<Option<Vec<f32>>, IndexError> {
        let mut vector = vec![0.0; self.index.dimensions()];
        Ok(self.copy(position, &mut vector)?.then_some(vector))
    }

    /// Compares `query` with each of the allowed entries.
    fn look_at(
        &self,
        query: &UnitVector,
        limit: usize,
        allowed: &RoaringBitmap,
    ) -> Result<Vec<Hit>, IndexError> {
        let mut vector = vec![0.0; self.index.dimensions()];
        let mut hits = Vec::with_capacity(allowed.len() as usize);
        for position in allowed {
            let key = u64::from(position);
            if self.copy(key, &mut vector)? {
                hits.push(Hit { key, score: cosine(query.values(), &vector) });
            }
        }
        if limit < hits.len() {
            hits.select_nth_unstable_by(limit, Hit::best_first);
            hits.truncate(limit);
        }
        Ok(hits)
    }

    /// Copies the vector of the entry at `position`, if there is one.
    fn copy(&self, position: u64, vector: &mut [f32]) -> Result<bool, IndexError> {
        let key = self.equal.key(position);
        Ok(self.index.get(key, vector).map_err(|error| IndexError::engine(&error))? > 0)
    }
}

/// Cosine similarity of two vectors of unit length.
pub fn cosine(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum::<f32>().clamp(-1.0, 1.0)
}

fn has(allowed: &RoaringBitmap, position: u64) -> bool {
    u32::try_from(position).is_ok_and(|position| allowed.contains(position))
}

/// Builds the index of a segment from its entries' vectors, one per row, in entry order, with at most `threads` threads. Blocking.
///
/// Several threads are used from 10,000 different vectors on; then the links between them, and so the bytes, depend on who was first.
pub fn build_index(
    dimension: u32,
    kind: VectorKind,
    rows: &[Vec<f32>],
    threads: usize,
) -> Result<Vectors, IndexError> {
    let (keys, mut different) = keys(dimension, rows)?;
    let keys = (different.len() < rows.len()).then_some(keys);
    // Neighbours in a knowledge base are often alike; multiplication scatters them (Knuth's multiplicative hash).
    different.sort_by_key(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let threads = if different.len() < MANY { 1 } else { threads.max(1) };
    Ok(Vectors { index: write(dimension, kind, rows, &different, threads)?, keys })
}

/// The key of each row, which is the first row that has the same direction; and all keys.
fn keys(dimension: u32, rows: &[Vec<f32>]) -> Result<(Vec<u64>, Vec<u64>), IndexError> {
    let (mut keys, mut different) = (Vec::with_capacity(rows.len()), Vec::new());
    // By hash, which takes less than the vectors.
    let mut known: HashMap<u64, u64> = HashMap::new();
    let hasher = known.hasher().clone();
    for position in 0..rows.len() {
        let vector = unit(dimension, rows, position)?;
        let key = match known.entry(hasher.hash_one(vector.bits())) {
            Entry::Occupied(first) => {
                let first = *first.get();
                // Of vectors that merely have the same hash, each is taken to differ from all others.
                if unit(dimension, rows, first as usize)? == vector { first } else { position as u64 }
            }
            Entry::Vacant(place) => *place.insert(position as u64),
        };
        keys.push(key);
        if key == position as u64 {
            different.push(key);
        }
    }
    Ok((keys, different))
}

fn unit(dimension: u32, rows: &[Vec<f32>], position: usize) -> Result<UnitVector, IndexError> {
    UnitVector::new(&rows[position], dimension).map_err(|why| IndexError::Vector { position, why })
}

fn write(
    dimension: u32,
    kind: VectorKind,
    rows: &[Vec<f32>],
    keys: &[u64],
    threads: usize,
) -> Result<Bytes, IndexError> {
    let failed = |error| IndexError::engine(&error);
    let index = Index::new(&options(dimension, kind)).map_err(failed)?;
    index.reserve_capacity_and_threads(keys.len(), threads).map_err(failed)?;
    let add = |key: u64| index.add(key, unit(dimension, rows, key as usize)?.values()).map_err(failed);
    in_parallel(threads, keys, add)?;
    if threads > 1 {
        // Those that are added at a time can take the links that lead to one another: what no search finds is added again, alone.
        index.change_expansion_search(LOOKED_AT_TO_CHECK);
        let lost = Mutex::new(Vec::new());
        in_parallel(threads, keys, |key| {
            if !finds(&index, &unit(dimension, rows, key as usize)?, key)? {
                lost.lock().unwrap_or_else(PoisonError::into_inner).push(key);
            }
            Ok(())
        })?;
        for key in lost.into_inner().unwrap_or_else(PoisonError::into_inner) {
            index.remove(key).map_err(failed)?;
            add(key)?;
        }
    }
    let mut bytes = vec![0; index.serialized_length()];
    index.save_to_buffer(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

/// Whether a search for `vector` finds the one of `key`, or another that is as near.
fn finds(index: &Index, vector: &UnitVector, key: u64) -> Result<bool, IndexError> {
    let failed = |error| IndexError::engine(&error);
    let found = index.search(vector.values(), 1).map_err(failed)?;
    let (Some(&nearest), Some(&distance)) = (found.keys.first(), found.distances.first()) else {
        return Ok(false);
    };
    let mut own = vec![0.0; index.dimensions()];
    Ok(nearest == key
        || index.get(key, &mut own).map_err(failed)? > 0
            && 1.0 - distance >= cosine(vector.values(), &own) - ROUNDING)
}

/// Does `work` for each of `keys`, with so many threads.
fn in_parallel(
    threads: usize,
    keys: &[u64],
    work: impl Fn(u64) -> Result<(), IndexError> + Sync,
) -> Result<(), IndexError> {
    let next = AtomicUsize::new(0);
    let go_on = || {
        while let Some(&key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(key)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(go_on)).collect();
        let own = go_on();
        let panicked = || IndexError::Engine("a thread that built it panicked".to_owned());
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|_| Err(panicked())));
        [own].into_iter().chain(others).collect()
    })
}

/// Loads verified bytes and checks that they are an index of `vectors` vectors.
fn load(
    bytes: &[u8],
    vectors: u64,
    dimension: u32,
    searches: Searches,
) -> Result<(Index, VectorKind), IndexError> {
    // Loading silently overrides the options of an index, so its header is looked at first.
    let header = Index::metadata_from_buffer(bytes).map_err(|error| IndexError::unreadable(&error))?;
    let different = |told: String| Err(IndexError::Different(told));
    if header.dimensions != u64::from(dimension) {
        return different(format!("its dimension is {}, not {dimension}", header.dimensions));
    }
    if header.count_present != vectors || header.count_deleted != 0 {
        return different(format!("it has {} vectors, not {vectors}", header.count_present));
    }
    let kind = VectorKind::ALL.into_iter().find(|kind| scalar(*kind) == header.quantization);
    let Some(kind) = kind.filter(|_| header.metric == MetricKind::Cos && !header.multi) else {
        let kinds = VectorKind::ALL.map(VectorKind::name).join(", ");
        return different(format!("it is not made for the cosine of vectors of {kinds}, each with one key"));
    };
    let index = Index::new(&options(dimension, kind)).map_err(|error| IndexError::engine(&error))?;
    index.load_from_buffer(bytes).map_err(|error| IndexError::unreadable(&error))?;
    // How far a search looks is not in the file.
    index.change_expansion_search(searches.expansion);
    // One place for each search at a time; a search without one fails.
    let reserved = index.reserve_capacity_and_threads(index.size(), searches.threads);
    reserved.map_err(|error| IndexError::engine(&error))?;
    Ok((index, kind))
}

fn scalar(kind: VectorKind) -> ScalarKind {
    match kind {
        VectorKind::F32 => ScalarKind::F32,
        VectorKind::F16 => ScalarKind::F16,
        VectorKind::I8 => ScalarKind::I8,
    }
}

fn options(dimension: u32, kind: VectorKind) -> IndexOptions {
    IndexOptions {
        dimensions: dimension as usize,
        metric: MetricKind::Cos,
        quantization: scalar(kind),
        connectivity: LINKS,
        expansion_add: LOOKED_AT_TO_LINK,
        expansion_search: Searches::ONE.expansion,
        multi: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_without_a_direction_are_refused() {
        for row in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0], vec![1.0]] {
            let error = build_index(2, VectorKind::F32, &[vec![1.0, 0.0], row], 1);
            assert!(matches!(error, Err(IndexError::Vector { position: 1, .. })));
        }
    }

    #[test]
    fn what_the_system_had_no_memory_for_is_neither_damaged_nor_a_defect() {
        // As usearch 2.26 and the standard library of C++ tell it.
        for told in [
            "Out of memory!",
            "Out of memory",
            "Failed to allocate memory for the casts",
            "Failed to allocate memory to address vectors",
            "Failed to reserve memory for the index",
            "failed to reserve memory",
            "failed memory allocation",
            "Can't allocate locks",
            "Can't allocate memory for a free-list",
            "No memory for result outputs!",
            "std::bad_alloc",
        ] {
            assert!(matches!(IndexError::engine(&told), IndexError::NoMemory), "{told}");
            assert!(matches!(IndexError::unreadable(&told), IndexError::NoMemory), "{told}");
        }
        for told in ["Possible memory corruption", "Magic header mismatch - the file isn't an index"] {
            assert!(matches!(IndexError::engine(&told), IndexError::Engine(_)), "{told}");
            assert!(matches!(IndexError::unreadable(&told), IndexError::Different(_)), "{told}");
        }
    }
}
