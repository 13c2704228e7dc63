//! Sets of keys as expressions of Milvus.

use roaring::RoaringBitmap;

/// The field with the key of a vector.
pub(super) const KEY: &str = "key";

/// What a number and a range take in an expression, bytes.
const NUMBER: u64 = 9;
const RANGE: u64 = 42;

/// "The key is one of these": as a list, as a list of those that are missing between them, or as ranges, whichever is about the shortest.
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
    let (listed, left_out, ranged) = (NUMBER * keys.len(), NUMBER * missing, RANGE * ranges.len() as u64);
    if listed <= left_out.min(ranged) {
        return among(keys.iter().map(u64::from));
    }
    if ranged <= left_out {
        return any_of(&ranges);
    }
    let missing = (0..=last).collect::<RoaringBitmap>() - keys;
    let missing = among(missing.iter().map(u64::from)).replacen(" in ", " not in ", 1);
    format!("{KEY} <= {last} and {missing}")
}

/// "The key is in one of these ranges". Milvus reads expressions recursively, so they are nested by halves.
fn any_of(ranges: &[(u32, u32)]) -> String {
    match ranges {
        [] => format!("{KEY} in []"),
        [(first, last)] => format!("({KEY} >= {first} and {KEY} <= {last})"),
        _ => {
            let (one, other) = ranges.split_at(ranges.len() / 2);
            format!("({} or {})", any_of(one), any_of(other))
        }
    }
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
        let few = |first: u32| (0..400).map(move |place| first + place);
        for (keys, expression) in [
            (vec![7], "key in [7]"),
            (vec![1, 3, 4, 9], "key in [1, 3, 4, 9]"),
            (few(1000).collect(), "(key >= 1000 and key <= 1399)"),
            (few(3).collect(), "key <= 402 and key not in [0, 1, 2]"),
            (vec![u32::MAX - 1, u32::MAX], "key in [4294967294, 4294967295]"),
            (
                few(10).chain(few(1000)).collect(),
                "((key >= 10 and key <= 409) or (key >= 1000 and key <= 1399))",
            ),
            (
                few(1000).chain(few(2000)).chain(few(3000)).collect(),
                "((key >= 1000 and key <= 1399) or ((key >= 2000 and key <= 2399) or (key >= 3000 and key <= 3399)))",
            ),
            ((0..400).filter(|key| *key != 7 && *key != 9).collect(), "key <= 399 and key not in [7, 9]"),
        ] {
            assert_eq!(of(&RoaringBitmap::from_iter(keys)), expression);
        }
        // Each with one value missing in a thousand, or there.
        let all: RoaringBitmap = (0..1_000_000).filter(|key| key % 1000 != 3).collect();
        assert!(of(&all).starts_with("key <= 999999 and key not in [3, 1003, "));
        let groups: RoaringBitmap = (0..100).flat_map(|group| 9000 * group..9000 * group + 4000).collect();
        let expression = of(&groups);
        assert!(expression.len() < 5000, "{}", expression.len());
        let depth = expression.bytes().take_while(|byte| *byte == b'(').count();
        assert!(depth < 10, "{depth}");
    }
}
