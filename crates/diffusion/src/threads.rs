//! How many threads a large sample is worth.

use std::num::NonZero;
use std::thread;

/// Elements worth a thread of their own: some 200 us of work, against 50 us to start it.
pub(crate) const PART: usize = 1 << 17;

/// Threads to share `elements` out to: one for small samples, never more than there are processors.
pub(crate) fn threads_for(elements: usize) -> usize {
    match elements / PART {
        0 | 1 => 1,
        parts => parts.min(thread::available_parallelism().map_or(1, NonZero::get)),
    }
}
