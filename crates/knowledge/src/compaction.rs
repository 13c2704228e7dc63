//! Which segments are written anew: many small ones as a larger one, and one of which much is deleted without that.
//!
//! Every write makes a segment, and every search looks into all of them. Merging those at the end that are small in comparison with what
//! comes after them keeps their number logarithmic, and each entry is written again a logarithmic number of times (O'Neil et al. 1996,
//! the log-structured merge tree).

use std::ops::Range;

use crate::epoch::Segment;

/// So many segments may be small.
const SMALL_ONES: usize = 8;
/// A segment is small if it has fewer than this many times the entries of all that come after it.
const SMALL: u64 = 2;
/// Entries of a segment that is made of others, at most: writing one anew takes memory, and minutes. One with half of that is large, whatever
/// comes after it.
const LARGEST: u64 = 250_000;
/// A segment of which more than this share is deleted is written anew.
const MOSTLY_THERE: f64 = 0.7;

/// The segments, side by side, that are to be written anew as one; none if there is no need.
pub fn choose(segments: &[Segment]) -> Option<Range<usize>> {
    let sizes: Vec<u64> = segments.iter().map(Segment::present).collect();
    let is_sparse =
        |(segment, &present): (&Segment, &u64)| (present as f64) < MOSTLY_THERE * segment.entries as f64;
    if let Some(sparse) = segments.iter().zip(&sizes).position(is_sparse) {
        return Some(sparse..sparse + 1);
    }
    let mut after = 0;
    let mut first_small = sizes.len();
    for (place, &size) in sizes.iter().enumerate().rev() {
        // Of the last one nothing comes after.
        if size >= LARGEST / 2 {
            break;
        }
        if place + 1 == sizes.len() || size < SMALL * after {
            first_small = place;
        }
        after += size;
    }
    let mut sum = 0;
    let fits = |size: &&u64| {
        sum += **size;
        sum <= LARGEST
    };
    let fitting = sizes[first_small..].iter().take_while(fits).count();
    (sizes.len() - first_small > SMALL_ONES).then_some(first_small..first_small + fitting)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::epoch::Deleted;
    use reverie_storage::FileDigest;

    fn segment(entries: u64, deleted: u64) -> Segment {
        let file = FileDigest::of("deleted", b"");
        let deleted = (deleted > 0).then_some(Deleted { entries: deleted, forget: BTreeSet::new(), file });
        Segment { name: "a".to_owned(), entries, deleted, files: Vec::new() }
    }

    #[test]
    fn few_segments_and_full_ones_are_left_alone() {
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[segment(1_000_000, 300_000)]), None);
        assert_eq!(choose(&[segment(10, 4)]), Some(0..1));
        assert_eq!(choose(&[segment(10, 0), segment(10, 10)]), Some(1..2));
        assert_eq!(choose(&vec![segment(1, 0); 8]), None);
        assert_eq!(choose(&vec![segment(1, 0); 9]), Some(0..9));
        let mut mixed = vec![segment(1_000_000, 0)];
        mixed.extend(vec![segment(5, 0); 9]);
        assert_eq!(choose(&mixed), Some(1..10));
    }

    #[test]
    fn large_ones_are_not_written_anew_because_others_come() {
        let large = LARGEST / 2;
        assert_eq!(choose(&vec![segment(large, 0); 30]), None);
        assert_eq!(choose(&vec![segment(large - 1, 0); 9]), Some(0..2));
        let mut mixed = vec![segment(large, 0); 30];
        mixed.extend(vec![segment(5, 0); 9]);
        assert_eq!(choose(&mixed), Some(30..39));
        // They are, if much of them is deleted.
        assert_eq!(choose(&[segment(large, large / 2)]), Some(0..1));
        // What is added by the thousand parts at once comes to an end.
        let mut segments = vec![segment(10_000, 0); 1_000];
        let mut written = 0;
        while let Some(range) = choose(&segments) {
            let merged: u64 = segments[range.clone()].iter().map(|segment| segment.entries).sum();
            assert!(range.len() > 1 && merged <= LARGEST, "{range:?}, {merged}");
            written += merged;
            segments.splice(range, [segment(merged, 0)]);
        }
        assert!(segments.len() <= 2 * 10_000_000 / LARGEST as usize + SMALL_ONES, "{}", segments.len());
        assert!(written <= 10_000_000, "{written}");
    }

    #[test]
    fn segments_stay_few_and_entries_are_seldom_written_again() {
        for batch in [1, 7, 32] {
            let (mut segments, mut written, mut most) = (Vec::new(), 0, 0);
            let batches = 4_000;
            for _ in 0..batches {
                segments.push(segment(batch, 0));
                while let Some(range) = choose(&segments) {
                    let merged: u64 = segments[range.clone()].iter().map(|segment| segment.entries).sum();
                    written += merged;
                    segments.splice(range, [segment(merged, 0)]);
                }
                most = most.max(segments.len());
            }
            let total = batch * batches;
            assert_eq!(segments.iter().map(|segment| segment.entries).sum::<u64>(), total);
            assert!(most <= 20, "{most} segments");
            assert!(written < 10 * total, "each entry was written {} times", written / total);
        }
    }
}
