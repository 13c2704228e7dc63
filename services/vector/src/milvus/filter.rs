//! Sets of keys as expressions of Milvus.

use std::fmt::Write as _;

use roaring::RoaringBitmap;

/// The field with the key of a vector.
pub(super) const KEY: &str = "key";

/// Ranges in one expression: Milvus reads it recursively.
const RANGES: usize = 100;

/// "The key is one of these": as few ranges, as all but some, or as a list, whichever is short.
pub(super) fn of(keys: &RoaringBitmap) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for key in keys {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(key) => *last = key,
            _ => ranges.push((key, key)),
        }
    }
    let last = keys.max().unwrap_or_default();
    let missing = u64::from(last) + 1 - keys.len();
    if 2 * ranges.len() as u64 > keys.len() || (ranges.len() > RANGES && missing > keys.len()) {
        return among(keys.iter().map(u64::from));
    }
    if ranges.len() > RANGES {
        let missing = (0..=last).collect::<RoaringBitmap>() - keys;
        let missing = among(missing.iter().map(u64::from)).replacen(" in ", " not in ", 1);
        return format!("{KEY} <= {last} and {missing}");
    }
    let mut expression = String::new();
    for (first, last) in ranges {
        let or = if expression.is_empty() { "" } else { " or " };
        // Writing to a text does not fail.
        let _ = write!(expression, "{or}({KEY} >= {first} and {KEY} <= {last})");
    }
    expression
}

/// "The key is one of these", as a list.
pub(super) fn among(keys: impl Iterator<Item = u64>) -> String {
    let listed: Vec<_> = keys.map(|key| key.to_string()).collect();
    format!("{KEY} in [{}]", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shorter_is_written() {
        for (keys, expression) in [
            (vec![7], "key in [7]"),
            (vec![1, 3, 4, 9], "key in [1, 3, 4, 9]"),
            ((3..90).collect(), "(key >= 3 and key <= 89)"),
            ((0..50).chain(51..=60).collect(), "(key >= 0 and key <= 49) or (key >= 51 and key <= 60)"),
            (vec![u32::MAX - 1, u32::MAX], "(key >= 4294967294 and key <= 4294967295)"),
        ] {
            assert_eq!(of(&RoaringBitmap::from_iter(keys)), expression);
        }
    }

    #[test]
    fn many_holes_are_listed_and_not_the_ranges_between_them() {
        let all: RoaringBitmap = (0..10_000).filter(|key| key % 20 != 3).collect();
        let expression = of(&all);
        assert!(expression.starts_with("key <= 9999 and key not in [3, 23, 43, "), "{expression}");
        assert_eq!(expression.matches(',').count(), 499);
        // Few of many.
        let some: RoaringBitmap =
            (0..10_000).flat_map(|group| [900 * group, 900 * group + 1, 900 * group + 2]).collect();
        assert!(of(&some).starts_with("key in [0, 1, 2, 900, "));
    }
}
