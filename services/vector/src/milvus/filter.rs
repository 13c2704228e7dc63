//! Sets of keys as expressions of Milvus.

use std::fmt::Write as _;

use roaring::RoaringBitmap;

/// The field with the key of a vector.
pub(super) const KEY: &str = "key";

/// "The key is one of these": as ranges where that is shorter than a list.
pub(super) fn of(keys: &RoaringBitmap) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for key in keys {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(key) => *last = key,
            _ => ranges.push((key, key)),
        }
    }
    if 2 * ranges.len() as u64 > keys.len() {
        return among(keys.iter().map(u64::from));
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
}
