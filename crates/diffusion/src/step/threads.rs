//! Sharing a large sample out to threads.

use std::num::NonZero;
use std::{mem, thread};

/// Threads to share `elements` out to: one for each `part`, which is worth a thread of its own (some 60 us to start it), and
/// never more than there are processors.
pub(crate) fn threads_for(elements: usize, part: usize) -> usize {
    match elements / part {
        0 | 1 => 1,
        parts => parts.min(thread::available_parallelism().map_or(1, NonZero::get)),
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
