//! The CPU cores of the process, shared by all its lanes.
//!
//! In the mesh of one process the lanes of several models compute on the same cores. A row asks for the cores that its session's
//! threads keep busy and waits until they are free, in the order of asking, so that no lane starves and no core is oversubscribed.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::execution;

/// A number of cores.
#[derive(Debug)]
pub struct Cores {
    id: u64,
    total: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Those that wait, the first first.
    queue: VecDeque<u64>,
    next: u64,
}

/// Cores that are in use until this is dropped.
#[derive(Debug)]
#[must_use = "the cores are free again once this is dropped"]
pub struct Taken<'a> {
    cores: &'a Cores,
    count: usize,
}

impl Cores {
    /// A budget of `total` cores, at least one.
    pub fn new(total: usize) -> Self {
        let total = total.max(1);
        let state = State { free: total, queue: VecDeque::new(), next: 0 };
        Self { id: unique_id(), total, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The budget of this process: the cores that its affinity and its cgroup allow.
    pub fn of_process() -> Arc<Self> {
        static CORES: OnceLock<Arc<Cores>> = OnceLock::new();
        let first = || {
            let cores = execution::cores();
            tracing::info!(cores, "CPU cores that the models of this process share");
            Arc::new(Cores::new(cores))
        };
        Arc::clone(CORES.get_or_init(first))
    }

    /// Tells them apart from the cores of other processes, on whatever machine.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Waits for `count` cores, or for all of them if there are fewer. Blocks, unless it asks for none, as for a model on a GPU.
    pub fn take(&self, count: usize) -> Taken<'_> {
        let count = count.min(self.total);
        if count == 0 {
            return Taken { cores: self, count };
        }
        let mut state = self.lock();
        let ticket = state.next;
        state.next += 1;
        state.queue.push_back(ticket);
        while state.queue.front() != Some(&ticket) || state.free < count {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.queue.pop_front();
        state.free -= count;
        drop(state);
        // The next one may need no more than what is left.
        self.changed.notify_all();
        Taken { cores: self, count }
    }

    /// No panic happens while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that nothing else has, in this process or another.
pub(crate) fn unique_id() -> u64 {
    // Each has random keys.
    RandomState::new().hash_one(std::process::id())
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.cores.lock().free += self.count;
        self.cores.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn no_more_cores_are_used_than_there_are() {
        let (cores, busy, most) = (Cores::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for asked in [1, 2, 3, 1, 2, 9] {
                let (cores, busy, most) = (&cores, &busy, &most);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let _taken = cores.take(asked);
                        let count = asked.min(3);
                        most.fetch_max(busy.fetch_add(count, Ordering::SeqCst) + count, Ordering::SeqCst);
                        thread::yield_now();
                        busy.fetch_sub(count, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((2..=3).contains(&most.into_inner()));
        assert_eq!(cores.lock().free, 3);
    }

    #[test]
    fn whoever_asks_for_none_does_not_wait() {
        let cores = Cores::new(1);
        let _all = cores.take(1);
        assert_eq!(cores.take(0).count, 0);
    }

    #[test]
    fn whoever_asks_for_many_is_not_overtaken_for_ever() {
        let cores = Cores::new(2);
        let order = Mutex::new(Vec::new());
        let waiting = |count| while cores.lock().queue.len() < count {};
        thread::scope(|scope| {
            let first = cores.take(1);
            for (place, asked) in [2, 1, 1].into_iter().enumerate() {
                let (cores, order) = (&cores, &order);
                scope.spawn(move || {
                    let _taken = cores.take(asked);
                    order.lock().unwrap().push(asked);
                });
                waiting(place + 1);
            }
            drop(first);
        });
        assert_eq!(order.into_inner().unwrap(), [2, 1, 1]);
    }
}
