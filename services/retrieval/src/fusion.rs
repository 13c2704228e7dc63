//! Reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): a hit of rank r in a list counts 1 / (k + r),
//! k = 60. Ranks are comparable where BM25 scores and cosines are not.

use std::collections::BTreeMap;

use reverie_knowledge::Hit;

/// The entries of all rankings, each best first, in one. A score of 1 is the first rank in each of them.
pub(crate) fn fuse(rankings: &[&[Hit]], rank_constant: f64) -> Vec<Hit> {
    let best = rankings.len() as f64 / (rank_constant + 1.0);
    let mut scores: BTreeMap<u64, f64> = BTreeMap::new();
    for ranking in rankings {
        for (rank, hit) in (1_u32..).zip(*ranking) {
            *scores.entry(hit.key).or_default() += 1.0 / (rank_constant + f64::from(rank));
        }
    }
    let mut fused: Vec<_> =
        scores.into_iter().map(|(key, score)| Hit { key, score: (score / best).min(1.0) as f32 }).collect();
    fused.sort_by(Hit::best_first);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(keys: &[u64]) -> Vec<Hit> {
        keys.iter().map(|&key| Hit { key, score: 0.5 }).collect()
    }

    #[test]
    fn what_both_find_comes_first() {
        let fused = fuse(&[&ranking(&[1, 2, 3]), &ranking(&[3, 4, 1])], 60.0);
        assert_eq!(fused.iter().map(|hit| hit.key).collect::<Vec<_>>(), [1, 3, 2, 4]);
        let expected = (1.0 / 61.0 + 1.0 / 63.0) / (2.0 / 61.0);
        assert!((f64::from(fused[0].score) - expected).abs() < 1e-6);
    }

    #[test]
    fn first_everywhere_scores_one_and_ties_go_by_key() {
        let fused = fuse(&[&ranking(&[9, 5]), &ranking(&[9, 7])], 60.0);
        assert!((fused[0].score - 1.0).abs() < 1e-6);
        let fused = fuse(&[&ranking(&[8]), &ranking(&[2])], 60.0);
        assert_eq!(fused.iter().map(|hit| hit.key).collect::<Vec<_>>(), [2, 8]);
        assert!(fuse(&[&[]], 60.0).is_empty());
    }
}
