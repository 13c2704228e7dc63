//! Fewer of what is alike: the best few of each group, and maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998).

use std::collections::HashMap;

/// The cosine similarities of some entries with one another: of the second with the first, of the third with the first and second, and
/// so on.
#[derive(Debug)]
pub(crate) struct Similarities(Vec<f32>);

impl Similarities {
    /// Those of `count` entries, each with those before it; none if there are not so many.
    pub(crate) fn new(count: usize, values: Vec<f32>) -> Option<Self> {
        let is_whole = values.len() == count * count.saturating_sub(1) / 2;
        (is_whole && values.iter().all(|value| value.is_finite())).then_some(Self(values))
    }

    fn of(&self, one: usize, other: usize) -> f32 {
        let (low, high) = (one.min(other), one.max(other));
        if low == high { 1.0 } else { self.0[high * (high - 1) / 2 + low] }
    }
}

/// The positions of at most `limit` of the entries with these `scores`, in the order in which they are told: next comes the one
/// with the highest `(1 - diversity) * score - diversity * similarity`, its similarity being to the most alike of those before it; of
/// equal ones the first. Of the entries with the same of `groups`, no more than `most` are told; those with none are no group.
pub(crate) fn thin<G: std::hash::Hash + Eq>(
    scores: &[f32],
    similarities: Option<(&Similarities, f32)>,
    groups: &[Option<G>],
    most: usize,
    limit: usize,
) -> Vec<usize> {
    let mut left: Vec<usize> = (0..scores.len()).collect();
    // How alike the most alike of the chosen ones is.
    let mut alike = vec![0.0_f32; scores.len()];
    let mut told: HashMap<&G, usize> = HashMap::new();
    let mut chosen = Vec::new();
    while chosen.len() < limit && !left.is_empty() {
        let gain = |&one: &usize| match similarities {
            Some((_, diversity)) => (1.0 - diversity) * scores[one] - diversity * alike[one],
            // As they come.
            None => 0.0,
        };
        let first_best = (1..left.len())
            .fold(0, |best, next| if gain(&left[next]) > gain(&left[best]) { next } else { best });
        let best = left.remove(first_best);
        chosen.push(best);
        if let Some((similarities, _)) = similarities {
            for &one in &left {
                let similarity = similarities.of(best, one);
                alike[one] = if chosen.len() == 1 { similarity } else { alike[one].max(similarity) };
            }
        }
        if let Some(group) = groups.get(best).and_then(Option::as_ref) {
            let count = told.entry(group).or_default();
            *count += 1;
            if *count >= most {
                left.retain(|&one| groups.get(one).and_then(Option::as_ref) != Some(group));
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_GROUPS: [Option<u8>; 0] = [];

    #[test]
    fn the_best_few_of_a_group_are_told_in_order() {
        let groups = [Some("fox"), Some("fox"), None, Some("hen"), None, Some("fox")];
        let scores = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5];
        assert_eq!(thin(&scores, None, &groups, 1, 9), [0, 2, 3, 4]);
        assert_eq!(thin(&scores, None, &groups, 2, 9), [0, 1, 2, 3, 4]);
        assert_eq!(thin(&scores, None, &groups, 1, 2), [0, 2]);
        assert_eq!(thin(&scores, None, &NO_GROUPS, 1, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn near_duplicates_come_after_others() {
        // The second is nearly the first; the third is another.
        let similarities = Similarities::new(3, vec![0.99, 0.1, 0.1]).unwrap();
        let order = |diversity| thin(&[0.9, 0.89, 0.5], Some((&similarities, diversity)), &NO_GROUPS, 1, 3);
        assert_eq!(order(0.0), [0, 1, 2]);
        // 0.5 * 0.89 - 0.5 * 0.99 < 0.5 * 0.5 - 0.5 * 0.1.
        assert_eq!(order(0.5), [0, 2, 1]);
        assert_eq!(order(1.0)[1], 2);
    }

    #[test]
    fn what_is_told_next_is_compared_with_all_before_it() {
        // 2 is like 0, 3 is like 1, 4 is like neither.
        let like = |one: usize, other: usize| if one - other == 2 && one < 4 { 0.95 } else { 0.0 };
        let values = (1..5).flat_map(|one| (0..one).map(move |other| like(one, other))).collect();
        let similarities = Similarities::new(5, values).unwrap();
        let order = thin(&[1.0, 0.9, 0.8, 0.7, 0.3], Some((&similarities, 0.5)), &NO_GROUPS, 1, 5);
        assert_eq!(order, [0, 1, 4, 2, 3]);
    }

    #[test]
    fn opposites_are_less_alike_than_strangers() {
        let similarities = Similarities::new(3, vec![0.0, -1.0, 0.0]).unwrap();
        assert_eq!(thin(&[1.0, 0.5, 0.5], Some((&similarities, 0.5)), &NO_GROUPS, 1, 2), [0, 2]);
    }

    #[test]
    fn similarities_that_are_not_whole_are_none() {
        assert!(Similarities::new(3, vec![0.5, 0.5]).is_none());
        assert!(Similarities::new(2, vec![f32::NAN]).is_none());
        assert!(Similarities::new(0, Vec::new()).is_some() && Similarities::new(1, Vec::new()).is_some());
    }
}
