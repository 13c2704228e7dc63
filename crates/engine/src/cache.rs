//! Results by content: computed once, however many ask for one at the same time, and kept within a bound of bytes and for a bounded time.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use moka::future;
use tokio::runtime::Handle;

use crate::metrics;

/// What a result depends on: a cryptographic digest of all of it.
pub type Key = [u8; 32];

/// How long a result is kept. What is erased from a knowledge base has no id here: what was worked out of it is gone after so long.
const LIFE: Duration = Duration::from_mins(10);
/// The longest time between two looks at what is too old.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Memory that an entry takes besides its value: its key and the cache's own records, about.
const ENTRY_BYTES: usize = 256;

/// A cache of results; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache<V: Clone + Send + Sync + 'static> {
    name: &'static str,
    entries: Arc<future::Cache<Key, V>>,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// A cache for at most `max_bytes`; `bytes` tells how many a value takes. Past that, what was not asked for longest is evicted; and
    /// anything, asked for or not, after ten minutes.
    pub fn new(
        name: &'static str,
        max_bytes: u64,
        bytes: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Self {
        Self::with_life(name, max_bytes, LIFE, bytes)
    }

    fn with_life(
        name: &'static str,
        max_bytes: u64,
        life: Duration,
        bytes: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Self {
        let weigh = move |_: &Key, value: &V| u32::try_from(bytes(value) + ENTRY_BYTES).unwrap_or(u32::MAX);
        let entries = future::Cache::builder().weigher(weigh).max_capacity(max_bytes).time_to_live(life);
        let entries = Arc::new(entries.build());
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(remove_old(Arc::downgrade(&entries), life.min(LOOK_EVERY)));
        }
        let weak = Arc::downgrade(&entries);
        metrics::observe_cache(name, move || Some(weak.upgrade()?.weighted_size()));
        Self { name, entries }
    }

    /// The result of `key`, from `compute` if it is not here. Of those that ask at the same time one computes and the others wait; if
    /// it is cancelled, or fails in a way that `is_personal` (such as by its own deadline), another one computes.
    pub async fn get_or_compute<E, F>(
        &self,
        key: Key,
        compute: impl Fn() -> F,
        is_personal: impl Fn(&E) -> bool,
    ) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        loop {
            let mine = AtomicBool::new(false);
            let init = async {
                mine.store(true, Ordering::Relaxed);
                compute().await
            };
            let outcome = self.entries.try_get_with(key, init).await;
            let mine = mine.into_inner();
            match outcome {
                Err(error) if !mine && is_personal(&error) => {}
                outcome => {
                    metrics::record_lookup(self.name, !mine);
                    return outcome;
                }
            }
        }
    }
}

/// Removes what is too old, which otherwise waits for the next lookup, as long as there is a cache.
async fn remove_old<V: Clone + Send + Sync + 'static>(cache: Weak<future::Cache<Key, V>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(cache) = cache.upgrade() else { return };
        cache.run_pending_tasks().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Wrong {
        Late,
        Broken,
    }

    fn cache() -> Cache<Arc<Vec<u8>>> {
        Cache::new("test", 1 << 20, |value: &Arc<Vec<u8>>| value.len())
    }

    #[tokio::test]
    async fn equal_work_at_the_same_time_is_done_once() {
        let (cache, computed, go) = (cache(), AtomicUsize::new(0), Notify::new());
        let ask = || {
            cache.get_or_compute(
                [1; 32],
                async || {
                    computed.fetch_add(1, Ordering::Relaxed);
                    go.notified().await;
                    Ok::<_, Wrong>(Arc::new(vec![7]))
                },
                |_| false,
            )
        };
        let release = async {
            tokio::task::yield_now().await;
            go.notify_one();
        };
        let (first, second, third, ()) = tokio::join!(ask(), ask(), ask(), release);
        for value in [first, second, third, ask().await] {
            assert_eq!(*value.unwrap(), [7]);
        }
        assert_eq!(computed.into_inner(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_shared_unless_it_is_personal() {
        for (wrong, expected) in [(Wrong::Broken, 1), (Wrong::Late, 2)] {
            let (cache, computed, go) = (cache(), AtomicUsize::new(0), Notify::new());
            let wrong = &wrong;
            let ask = || {
                cache.get_or_compute(
                    [2; 32],
                    async || {
                        if computed.fetch_add(1, Ordering::Relaxed) > 0 {
                            return Ok(Arc::default());
                        }
                        go.notified().await;
                        Err(if *wrong == Wrong::Late { Wrong::Late } else { Wrong::Broken })
                    },
                    |error| *error == Wrong::Late,
                )
            };
            let release = async {
                tokio::task::yield_now().await;
                go.notify_one();
            };
            let (first, second, ()) = tokio::join!(ask(), ask(), release);
            assert_eq!(*first.unwrap_err(), *wrong);
            assert_eq!(second.is_ok(), *wrong == Wrong::Late);
            assert_eq!(computed.into_inner(), expected);
        }
    }

    #[tokio::test]
    async fn when_the_one_that_computes_leaves_another_one_does() {
        let (cache, computed) = (cache(), AtomicUsize::new(0));
        let ask = || {
            cache.get_or_compute(
                [3; 32],
                async || match computed.fetch_add(1, Ordering::Relaxed) {
                    0 => std::future::pending().await,
                    _ => Ok::<_, Wrong>(Arc::default()),
                },
                |_| false,
            )
        };
        let mut first = Box::pin(ask());
        assert!(futures::poll!(first.as_mut()).is_pending());
        let mut second = Box::pin(ask());
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        second.await.unwrap();
        assert_eq!(computed.into_inner(), 2);
    }

    #[tokio::test]
    async fn what_is_old_goes_though_nobody_asks() {
        let life = Duration::from_millis(50);
        let cache = Cache::with_life("test", 100_000, life, |value: &Arc<Vec<u8>>| value.len());
        let value = async || Ok::<_, Wrong>(Arc::new(vec![0; 10_000]));
        cache.get_or_compute([1; 32], value, |_| false).await.unwrap();
        cache.entries.run_pending_tasks().await;
        assert!(cache.entries.weighted_size() > 10_000);
        let gone = async {
            while cache.entries.weighted_size() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    }

    #[tokio::test]
    async fn it_holds_no_more_than_its_bytes() {
        let cache = Cache::new("test", 100_000, |value: &Arc<Vec<u8>>| value.len());
        for number in 0..100_u8 {
            let value = async || Ok::<_, Wrong>(Arc::new(vec![0; 10_000]));
            cache.get_or_compute([number; 32], value, |_| false).await.unwrap();
        }
        cache.entries.run_pending_tasks().await;
        let bytes = cache.entries.weighted_size();
        assert!(bytes <= 100_000 && bytes > 50_000, "{bytes}");
    }
}
