//! Reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): a hit of rank r in a list of weight w counts
//! w / (k + r), k = 60. Ranks are comparable where BM25 scores and cosines are not.
//!
//! Weights: the embeddings have 1. BM25 has 1 too, unless the text has a rare word that occurs in the captions, which is
//! how names look. Then only the captions with such a word take part for BM25, with weight 2: each of the first 61 of them
//! counts 2 / (60 + r) > 1 / 61, which is more than any entry that only the embeddings found. So a prompt that names an
//! entity finds the entity's pictures, and the embeddings order what is like it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// An entry and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    /// Position in the knowledge base's entry list.
    pub(crate) key: u64,
    /// Higher is better; comparable within one list.
    pub(crate) score: f32,
}

impl Hit {
    /// Orders by score, and hits of one score by key.
    pub(crate) fn best_first(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.key.cmp(&other.key))
    }
}

/// A list of hits, best first, and how much it counts.
pub(crate) struct Ranking {
    pub(crate) weight: f64,
    pub(crate) hits: Vec<Hit>,
}

/// The best `limit` entries of all rankings. A score of 1 is the first rank in each of them.
pub(crate) fn fuse(rankings: &[Ranking], rank_constant: f64, limit: usize) -> Vec<Hit> {
    let best: f64 = rankings.iter().map(|ranking| ranking.weight / (rank_constant + 1.0)).sum();
    let mut scores: BTreeMap<u64, f64> = BTreeMap::new();
    for ranking in rankings {
        for (rank, hit) in (1_u32..).zip(&ranking.hits) {
            *scores.entry(hit.key).or_default() += ranking.weight / (rank_constant + f64::from(rank));
        }
    }
    let mut fused: Vec<_> =
        scores.into_iter().map(|(key, score)| Hit { key, score: (score / best).min(1.0) as f32 }).collect();
    fused.sort_by(Hit::best_first);
    fused.truncate(limit);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(weight: f64, keys: &[u64]) -> Ranking {
        Ranking { weight, hits: keys.iter().map(|&key| Hit { key, score: 0.5 }).collect() }
    }

    #[test]
    fn what_both_find_comes_first() {
        let fused = fuse(&[ranking(1.0, &[1, 2, 3]), ranking(1.0, &[3, 4, 1])], 60.0, 3);
        assert_eq!(fused.iter().map(|hit| hit.key).collect::<Vec<_>>(), [1, 3, 2]);
        let expected = (1.0 / 61.0 + 1.0 / 63.0) / (2.0 / 61.0);
        assert!((f64::from(fused[0].score) - expected).abs() < 1e-6);
    }

    #[test]
    fn first_everywhere_scores_one_and_ties_go_by_key() {
        let fused = fuse(&[ranking(2.0, &[9, 5]), ranking(1.0, &[9, 7])], 60.0, 8);
        assert!((fused[0].score - 1.0).abs() < 1e-6);
        let fused = fuse(&[ranking(1.0, &[8]), ranking(1.0, &[2])], 60.0, 8);
        assert_eq!(fused.iter().map(|hit| hit.key).collect::<Vec<_>>(), [2, 8]);
        assert!(fuse(&[ranking(1.0, &[])], 60.0, 8).is_empty());
    }

    #[test]
    fn twice_the_weight_puts_61_hits_before_the_other_list() {
        let named: Vec<u64> = (100..200).collect();
        let fused = fuse(&[ranking(2.0, &named), ranking(1.0, &[1, 2])], 60.0, 100);
        assert_eq!(fused.iter().position(|hit| hit.key == 1), Some(61));
    }
}
