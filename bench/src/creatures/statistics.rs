//! How sure a mean is, whether two things go together, and how far two sets of pictures are apart.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

const RESAMPLES: usize = 2000;
const SIGN_FLIPS: usize = 10_000;
/// Every figure can be worked out again.
const SEED: u64 = 2023;

/// A mean with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// Mean, low and high end of a share, in per cent.
    pub(crate) fn percent(&self) -> [f64; 3] {
        [self.mean, self.low, self.high].map(|share| 100.0 * share)
    }
}

/// The mean of all values, and its percentile bootstrap interval with whole clusters drawn again (Efron & Tibshirani 1993,
/// section 13.3; Field & Welsh 2007 for clusters): pictures of one creature are not independent.
pub(crate) fn estimate(clusters: &[Vec<f64>]) -> Estimate {
    let sums: Vec<(f64, usize)> = clusters
        .iter()
        .filter(|values| !values.is_empty())
        .map(|values| (values.iter().sum(), values.len()))
        .collect();
    let mean_of = |sums: &mut dyn Iterator<Item = &(f64, usize)>| {
        let (sum, count) = sums.fold((0.0, 0), |(sum, count), (more, n)| (sum + more, count + n));
        sum / count as f64
    };
    let mean = mean_of(&mut sums.iter());
    if sums.len() < 2 {
        return Estimate { mean, low: f64::NAN, high: f64::NAN };
    }
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| mean_of(&mut (0..sums.len()).map(|_| &sums[rng.random_range(0..sums.len())])))
        .collect();
    means.sort_by(f64::total_cmp);
    Estimate { mean, low: quantile(&means, 0.025), high: quantile(&means, 0.975) }
}

/// Of sorted values, interpolated linearly.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let rank = p * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    low + (high - low) * rank.fract()
}

/// Spearman's rank correlation of pairs, ties sharing their mean rank; 0 where one side does not vary.
pub(super) fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (x, y) = (ranks(&x), ranks(&y));
    let middle = f64::midpoint(pairs.len() as f64, 1.0);
    let product = |one: &[f64], other: &[f64]| -> f64 {
        one.iter().zip(other).map(|(one, other)| (one - middle) * (other - middle)).sum()
    };
    let spread = (product(&x, &x) * product(&y, &y)).sqrt();
    if spread > 0.0 { product(&x, &y) / spread } else { 0.0 }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&one, &other| values[one].total_cmp(&values[other]));
    let (mut ranks, mut below) = (vec![0.0; values.len()], 0.0);
    for tied in order.chunk_by(|&one, &other| values[one].total_cmp(&values[other]).is_eq()) {
        for &index in tied {
            ranks[index] = below + f64::midpoint(tied.len() as f64, 1.0);
        }
        below += tied.len() as f64;
    }
    ranks
}

/// The probability of a mean as far from zero as that of `values`, if each could as well have had the other sign (Fisher's
/// randomisation test, two-sided, by 10,000 random draws of signs).
pub(super) fn sign_flip_p(values: &[f64]) -> f64 {
    let observed = values.iter().sum::<f64>().abs();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut flip =
        || values.iter().map(|value| if rng.random::<bool>() { *value } else { -value }).sum::<f64>().abs();
    let as_far = (0..SIGN_FLIPS).filter(|_| flip() >= observed - 1e-12).count();
    (as_far + 1) as f64 / (SIGN_FLIPS + 1) as f64
}

/// Features of a picture, and the creature it shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) creature: usize,
    pub(super) features: &'a [f32],
}

/// Kernel distance of pictures from true drawings (KID: Binkowski et al. 2018, "Demystifying MMD GANs", section 4): the
/// unbiased squared maximum mean discrepancy under k(x, y) = (x.y / d + 1)^3, with features scaled so that a true drawing's
/// x.x / d is 1 in the mean. About 0, of either sign, where one cannot tell them apart.
///
/// Only pairs of different creatures count: both sets show the same ones, and pictures of one creature are alike.
/// Frechet's distance would need more pictures than features to be free of bias; this one never has any.
pub(super) fn kernel_distance(pictures: &[Look<'_>], truths: &[Look<'_>]) -> f64 {
    let dot = |x: &Look<'_>, y: &Look<'_>| -> f64 {
        x.features.iter().zip(y.features).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let scale = truths.iter().map(|truth| dot(truth, truth)).sum::<f64>() / truths.len() as f64;
    let kernel = |x: &Look<'_>, y: &Look<'_>| (dot(x, y) / scale + 1.0).powi(3);
    let mean = |one: &[Look<'_>], other: &[Look<'_>]| {
        let (mut sum, mut count) = (0.0, 0.0);
        for x in one {
            for y in other.iter().filter(|y| y.creature != x.creature) {
                sum += kernel(x, y);
                count += 1.0;
            }
        }
        sum / count
    };
    mean(pictures, pictures) + mean(truths, truths) - 2.0 * mean(pictures, truths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_mean_and_narrows_with_more_clusters() {
        let clusters = |count: usize| (0..count).map(|i| vec![(i % 2) as f64; 3]).collect::<Vec<_>>();
        let (few, many) = (estimate(&clusters(10)), estimate(&clusters(400)));
        assert_eq!((few.mean, many.mean), (0.5, 0.5));
        assert!(few.low < 0.5 && 0.5 < few.high);
        assert!(many.high - many.low < (few.high - few.low) / 3.0);
        // Of a proportion of 400 by the normal approximation: 1.96 sqrt(0.25 / 400).
        assert!((many.high - 0.5 - 0.049).abs() < 0.01, "{many:?}");
    }

    /// Copies of a picture of the same creature tell nothing new.
    #[test]
    fn more_pictures_of_the_same_creatures_do_not_narrow_it() {
        let with = |copies| estimate(&(0..20).map(|i| vec![f64::from(i % 2); copies]).collect::<Vec<_>>());
        assert_eq!(with(1), with(50));
    }

    #[test]
    fn one_cluster_has_a_mean_but_no_interval() {
        let alone = estimate(&[vec![1.0, 2.0], vec![]]);
        assert_eq!(alone.mean, 1.5);
        assert!(alone.low.is_nan());
    }

    #[test]
    fn spearman_is_that_of_the_ranks() {
        let rising = [(1.0, 1.0), (2.0, 8.0), (3.0, 9.0), (4.0, 100.0)];
        assert!((spearman(&rising) - 1.0).abs() < 1e-12);
        assert!((spearman(&rising.map(|(x, y)| (x, -y))) + 1.0).abs() < 1e-12);
        // 1 - 6 (1 + 1) / (5 (25 - 1)): the ranks of two neighbours changed.
        let swapped = [(1.0, 1.0), (2.0, 2.0), (3.0, 4.0), (4.0, 3.0), (5.0, 5.0)];
        assert!((spearman(&swapped) - 0.9).abs() < 1e-12);
        // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
        let tied = [(1.0, 1.0), (2.0, 2.0), (2.0, 3.0), (3.0, 4.0)];
        assert!((spearman(&tied) - 4.5 / 22.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(spearman(&[(1.0, 5.0), (2.0, 5.0)]), 0.0);
    }

    #[test]
    fn signs_that_agree_are_no_chance() {
        assert!(sign_flip_p(&[1.0; 12]) < 0.002);
        let mixed: Vec<f64> = (0..12).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert!(sign_flip_p(&mixed) > 0.9);
        // Three of one sign: 2 of 8 outcomes are as far.
        assert!((sign_flip_p(&[1.0, 1.0, 1.0]) - 0.25).abs() < 0.02);
    }

    /// One picture each of `count` creatures.
    fn looks(features: &[Vec<f32>]) -> Vec<Look<'_>> {
        features.iter().enumerate().map(|(creature, features)| Look { creature, features }).collect()
    }

    #[test]
    fn the_kernel_distance_tells_sets_apart() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut set = |centre: f32| {
            (0..200)
                .map(|_| (0..8).map(|_| centre + rng.random_range(-1.0..1.0)).collect::<Vec<f32>>())
                .collect::<Vec<_>>()
        };
        let (one, same, other) = (set(0.0), set(0.0), set(0.7));
        assert!(kernel_distance(&looks(&one), &looks(&same)).abs() < 0.02);
        assert!(kernel_distance(&looks(&other), &looks(&one)) > 0.3);
        // Truths 1, pictures 2, so k = (x y + 1)^3: 5^3 + 2^3 - 2 3^3.
        let (ones, twos) = ([vec![1.0], vec![1.0]], [vec![2.0], vec![2.0]]);
        assert!((kernel_distance(&looks(&twos), &looks(&ones)) - 79.0).abs() < 1e-9);
    }

    /// Pictures that are their creatures' true drawings, creature by creature: nothing tells them apart.
    #[test]
    fn the_same_creatures_in_both_sets_do_not_bias_it() {
        let mut rng = SmallRng::seed_from_u64(2);
        let set: Vec<Vec<f32>> =
            (0..40).map(|_| (0..8).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        assert!(kernel_distance(&looks(&set), &looks(&set)).abs() < 1e-9);
    }
}
