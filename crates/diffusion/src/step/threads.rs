//! Sharing a large sample out to threads.

use std::cell::Cell;
use std::num::NonZero;
use std::{mem, thread};

thread_local! {
    static MOST: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Lets this thread share large samples out to `count` threads at most, itself among them: as many as it has cores of a budget. A
/// thread that was not told may use all processors. The samples are the same, bit for bit.
pub fn use_threads(count: usize) {
    MOST.set(Some(count.max(1)));
}

/// Threads to share `elements` out to: one for each `part`, which is worth a thread of its own (some 60 us to start it), and
/// never more than this one may use.
pub(crate) fn threads_for(elements: usize, part: usize) -> usize {
    match elements / part {
        0 | 1 => 1,
        parts => {
            parts.min(MOST.get().unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get)))
        }
    }
}

/// Works on each part on a thread of its own, the last on the caller's.
pub(crate) fn share<Part: Send>(mut parts: impl Iterator<Item = Part>, work: impl Fn(Part) + Sync) {
    let Some(mut part) = parts.next() else { return };
    let (work, mut parts) = (&work, parts.peekable());
    if parts.peek().is_none() {
        // Without the little that a scope takes.
        return work(part);
    }
    thread::scope(|scope| {
        for next in parts {
            let part = mem::replace(&mut part, next);
            scope.spawn(move || work(part));
        }
        work(part);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_uses_no_more_than_it_has() {
        assert_eq!(threads_for(10, 10), 1);
        use_threads(3);
        assert_eq!([threads_for(19, 10), threads_for(20, 10), threads_for(1000, 10)], [1, 2, 3]);
        use_threads(0);
        assert_eq!(threads_for(1000, 10), 1);
    }
}
