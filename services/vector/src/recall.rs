//! How many of the nearest entries a search finds, measured against exact searches.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie_proto::vector::v1::MeasureRecallResponse;
use reverie_service_kit::Context;

use crate::CollectionError;
use crate::convert::Measure;
use crate::vectors::Terms;

/// The same entries are drawn each time.
const SEED: u64 = 1;
/// Draws for each query, some of which may be of one entry, or of two that are opposite.
const DRAWS: u32 = 10;

/// Measures until all is done, or until the caller's deadline. Blocking.
pub(crate) fn measure(measure: &Measure, context: Context) -> Result<MeasureRecallResponse, CollectionError> {
    let Measure { collection, queries, limit } = measure;
    let (mut draw, entries) = (StdRng::seed_from_u64(SEED), collection.manifest().entries());
    let (mut found, mut nearest) = (0, 0);
    let (mut times, mut exact_times) = (Vec::new(), Vec::new());
    for _ in 0..queries.saturating_mul(DRAWS) {
        // Half of what is left is kept for the answer.
        let is_late = context.deadline().is_some_and(|deadline| {
            let last: Duration = exact_times.last().copied().unwrap_or_default();
            Instant::now() + 2 * last >= deadline
        });
        if times.len() as u32 == *queries || is_late {
            break;
        }
        let (one, other) = (draw.random_range(0..entries), draw.random_range(0..entries));
        let Some(query) = collection.between(one, other, context)? else { continue };
        let search = |is_exact, times: &mut Vec<Duration>| {
            let begun = Instant::now();
            let hits = collection.search(&query, Terms { is_exact, context, ..Terms::nearest(*limit) })?;
            times.push(begun.elapsed());
            Ok::<_, CollectionError>(hits)
        };
        let (told, truth) = (search(false, &mut times)?, search(true, &mut exact_times)?);
        let told: HashSet<u64> = told.iter().map(|hit| hit.key).collect();
        nearest += truth.len();
        found += truth.iter().filter(|hit| told.contains(&hit.key)).count();
    }
    Ok(MeasureRecallResponse {
        recall: if nearest == 0 { 0.0 } else { found as f64 / nearest as f64 },
        queries: times.len() as u32,
        search_milliseconds: median(&mut times),
        exact_milliseconds: median(&mut exact_times),
        epoch: collection.manifest().epoch,
    })
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |median| median.as_secs_f64() * 1e3)
}
