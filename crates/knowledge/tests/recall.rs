//! The approximate search of an index finds what the exact one finds, or nearly, and both are really taken.
#![cfg(feature = "index")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie_knowledge::epoch::VectorKind;
use reverie_knowledge::index::{Searches, SegmentIndex, build_index};
use reverie_knowledge::{Hit, UnitVector};
use roaring::RoaringBitmap;

const SEED: u64 = 20_261_126;
const DIMENSION: usize = 32;
/// More than a search looks at (1,024), so that it has to find its way.
const VECTORS: usize = 6000;
const SEARCHES: Searches = Searches { threads: 2, expansion: 1024 };
const QUERIES: usize = 200;
const NEAREST: usize = 10;

fn vector(random: &mut StdRng) -> Vec<f32> {
    (0..DIMENSION).map(|_| random.random_range(-1.0..1.0)).collect()
}

fn index(rows: &[Vec<f32>]) -> SegmentIndex {
    index_of(rows, VectorKind::F32)
}

fn index_of(rows: &[Vec<f32>], kind: VectorKind) -> SegmentIndex {
    let vectors = build_index(DIMENSION as u32, kind, rows, 1).unwrap();
    SegmentIndex::load(&vectors, rows.len() as u64, DIMENSION as u32, SEARCHES).unwrap()
}

/// The entries nearest to `query`, by an exact search if the index has at most `exact_bytes`.
fn nearest(index: &SegmentIndex, query: &[f32], exact_bytes: usize) -> BTreeSet<u64> {
    let query = UnitVector::new(query, DIMENSION as u32).unwrap();
    let mut hits = index.search(&query, NEAREST, exact_bytes, None).unwrap();
    hits.sort_by(|one, other| other.score.total_cmp(&one.score));
    hits.iter().take(NEAREST).map(|hit| hit.key).collect()
}

/// The entries nearest to `query`, by looking at all of them.
fn true_nearest(rows: &[Vec<f32>], query: &[f32]) -> BTreeSet<u64> {
    let mut scores: Vec<_> = rows.iter().map(|row| score(row, query)).zip(0..).collect();
    scores.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    scores.iter().take(NEAREST).map(|(_, key)| *key).collect()
}

/// The share of the true ones that each search finds: approximate, then exact.
fn recall(index: &SegmentIndex, rows: &[Vec<f32>], queries: &[Vec<f32>]) -> [f64; 2] {
    let all = (queries.len() * NEAREST) as f64;
    [0, usize::MAX].map(|exact_bytes| {
        let found = |query: &Vec<f32>| {
            nearest(index, query, exact_bytes).intersection(&true_nearest(rows, query)).count()
        };
        queries.iter().map(found).sum::<usize>() as f64 / all
    })
}

#[test]
fn the_approximate_search_finds_nearly_all_and_the_exact_one_all() {
    let mut random = StdRng::seed_from_u64(SEED);
    let rows: Vec<_> = (0..VECTORS).map(|_| vector(&mut random)).collect();
    let queries: Vec<_> = (0..QUERIES).map(|_| vector(&mut random)).collect();
    let [approximate, exact] = recall(&index(&rows), &rows, &queries);
    println!("recall@{NEAREST}: {approximate} approximate, {exact} exact");
    assert!(approximate > 0.95, "{approximate}");
    // But for ties of rounding.
    assert!(exact > 0.999, "{exact}");
}

/// Vectors that are nearly equal are most easily lost when several threads insert them.
#[test]
fn an_index_that_many_threads_built_finds_each_of_its_vectors() {
    let mut random = StdRng::seed_from_u64(SEED + 7);
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for group in 1..=2000 {
        let center = vector(&mut random);
        let near =
            |random: &mut StdRng| center.iter().map(|x| x + random.random_range(-1e-2..1e-2)).collect();
        rows.extend((0..2000_usize.div_ceil(group)).map(|_| near(&mut random)));
    }
    let vectors = build_index(DIMENSION as u32, VectorKind::F32, &rows, 8).unwrap();
    let index = SegmentIndex::load(&vectors, rows.len() as u64, DIMENSION as u32, SEARCHES).unwrap();
    let is_found = |(key, row): (u64, &Vec<f32>)| {
        let query = UnitVector::new(row, DIMENSION as u32).unwrap();
        index.search(&query, 1, 0, None).unwrap().iter().any(|hit| hit.key == key)
    };
    let lost = (0..).zip(&rows).filter(|&one| !is_found(one)).count();
    println!("{lost} of {} are not found", rows.len());
    assert!(rows.len() > 10_000 && lost == 0, "{lost} of {}", rows.len());
}

/// Vectors that are nearly equal are a trap, which only a search that looks at all vectors never falls into: the two differ.
#[test]
fn each_search_is_the_one_that_is_asked_for() {
    let mut random = StdRng::seed_from_u64(SEED);
    let center = vector(&mut random);
    let near = |random: &mut StdRng| center.iter().map(|x| x + random.random_range(-1e-3..1e-3)).collect();
    let mut rows: Vec<Vec<f32>> = (0..VECTORS).map(|_| near(&mut random)).collect();
    let queries: Vec<_> = (0..QUERIES).map(|_| vector(&mut random)).collect();
    rows.extend(queries.iter().cloned());
    let [approximate, exact] = recall(&index(&rows), &rows, &queries);
    println!("recall@{NEAREST}: {approximate} approximate, {exact} exact");
    assert!(exact > 0.999, "{exact}");
    assert!(approximate < exact, "{approximate}");
}

/// Of 1, 10 and 50 % of the entries, both searches find the nearest; of equal vectors, those that are allowed.
#[test]
fn a_search_among_some_entries_finds_the_nearest_of_them() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut rows: Vec<_> = (0..VECTORS).map(|_| vector(&mut random)).collect();
    // Every vector of the first half is there twice, and the graph has it once.
    let (first, second) = rows.split_at_mut(VECTORS / 2);
    second.clone_from_slice(first);
    let index = index(&rows);
    for step in [100, 10, 2] {
        // Odd ones of the second half too: those have their vectors from entries that are not allowed.
        let allowed: RoaringBitmap =
            (0..VECTORS as u32).filter(|key| (key + key / 3000) % step == 0).collect();
        for exact_bytes in [0, usize::MAX] {
            let mut found = 0;
            for _ in 0..50 {
                let query = vector(&mut random);
                let mut scores: Vec<f32> =
                    allowed.iter().map(|key| score(&rows[key as usize], &query)).collect();
                scores.sort_by(|one, other| other.total_cmp(one));
                let unit = UnitVector::new(&query, DIMENSION as u32).unwrap();
                let mut hits = index.search(&unit, NEAREST, exact_bytes, Some(&allowed)).unwrap();
                hits.sort_by(Hit::best_first);
                hits.truncate(NEAREST);
                let keys: BTreeSet<u64> = hits.iter().map(|hit| hit.key).collect();
                assert_eq!((keys.len(), hits.len()), (NEAREST, NEAREST));
                assert!(keys.iter().all(|&key| allowed.contains(key as u32)));
                let length = score(&query, &query);
                found += hits.iter().filter(|hit| hit.score > scores[NEAREST - 1] / length - 1e-4).count();
            }
            let recall = found as f64 / (50 * NEAREST) as f64;
            println!("1 of {step} entries, exact up to {exact_bytes} bytes: {recall}");
            assert!(recall > if exact_bytes == 0 { 0.95 } else { 0.999 }, "{step} {exact_bytes}: {recall}");
        }
    }
}

/// The cosine similarity of `row` and `query`, times the length of `query`.
fn score(row: &[f32], query: &[f32]) -> f32 {
    let dot = |one: &[f32], other: &[f32]| -> f32 { one.iter().zip(other).map(|(a, b)| a * b).sum() };
    dot(row, query) / dot(row, row).sqrt()
}

#[test]
fn smaller_numbers_find_nearly_the_same() {
    let mut random = StdRng::seed_from_u64(SEED + 3);
    let rows: Vec<_> = (0..VECTORS).map(|_| vector(&mut random)).collect();
    let queries: Vec<_> = (0..QUERIES).map(|_| vector(&mut random)).collect();
    for (kind, least, off) in [(VectorKind::F16, 0.98, 0.002), (VectorKind::I8, 0.85, 0.02)] {
        let index = index_of(&rows, kind);
        let [approximate, exact] = recall(&index, &rows, &queries);
        assert!(approximate > least && exact > least, "{kind:?}: {approximate} and {exact}");
        let query = UnitVector::new(&queries[0], DIMENSION as u32).unwrap();
        for exact_bytes in [0, usize::MAX] {
            for Hit { key, score: told } in index.search(&query, NEAREST, exact_bytes, None).unwrap() {
                let difference = (told - score(&rows[key as usize], query.values())).abs();
                assert!(difference < off, "{kind:?}: {told} is off by {difference}");
            }
        }
    }
}
