//! Where images that came from outside are decoded: on blocking threads, with a bound on all the pixels that are decoded at a
//! time in this process.
//!
//! A file of 49 KB can hold 4,096 x 4,096 pixels, which are 48 MiB. So what an image will take is known from its header before a
//! pixel is decoded, its share of the bound is taken first, and the share is held until the decoded image is dropped, for which
//! it is brought to the size that is needed. Waiting ends when the caller leaves, and nothing begins after that.

use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use image::RgbImage;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::PictureError;
use crate::encoded::{Encoded, MAX_SIDE};

/// The pixels that are decoded at a time: two images of the largest size.
const MAX_PIXELS: u64 = 2 * MAX_SIDE as u64 * MAX_SIDE as u64;
/// Pixels of one permit.
const UNIT: u64 = 1024;
/// Pixels from which the images of a request are decoded in turn: about 10 ms of work.
const LARGE: u64 = 1 << 20;

static POOL: LazyLock<Pool> =
    LazyLock::new(|| Pool::new(MAX_PIXELS, available_parallelism().map_or(1, std::num::NonZero::get)));

/// Decodes an image in the process's pool and gives what `make` makes of it; the decoded image itself does not leave.
///
/// # Errors
/// Why it cannot be decoded.
pub async fn decode<T: Send + 'static>(
    image: Encoded,
    make: impl FnOnce(&RgbImage) -> T + Send + 'static,
) -> Result<T, PictureError> {
    let pixels = image.size().pixels();
    run(pixels, move || image.decode().map(|image| make(&image))).await
}

/// Runs `work`, which holds at most `pixels` decoded pixels at a time, in the process's pool.
///
/// # Errors
/// What `work` gives, or that it panicked.
pub async fn run<T: Send + 'static>(
    pixels: u64,
    work: impl FnOnce() -> Result<T, PictureError> + Send + 'static,
) -> Result<T, PictureError> {
    POOL.run(pixels, work).await
}

/// Waits until it is the turn of a request whose images have so many `pixels` together, which lasts until what is given is dropped; a
/// small one does not wait.
///
/// As many requests as there are threads have their images decoded at a time, so that those that come first are ready first. If all
/// requests shared the pool, image by image, all would be ready last.
pub async fn turn(pixels: u64) -> Option<SemaphorePermit<'static>> {
    POOL.turn(pixels).await
}

/// A bound on decoded pixels, and on the threads that decode.
#[derive(Debug)]
struct Pool {
    pixels: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    requests: Semaphore,
    most: u64,
}

impl Pool {
    fn new(pixels: u64, threads: usize) -> Self {
        let most = pixels / UNIT;
        Self {
            pixels: Arc::new(Semaphore::new(most as usize)),
            turns: Arc::new(Semaphore::new(threads)),
            requests: Semaphore::new(threads),
            most,
        }
    }

    async fn turn(&self, pixels: u64) -> Option<SemaphorePermit<'_>> {
        if pixels < LARGE { None } else { self.requests.acquire().await.ok() }
    }

    async fn run<T: Send + 'static>(
        &self,
        pixels: u64,
        work: impl FnOnce() -> Result<T, PictureError> + Send + 'static,
    ) -> Result<T, PictureError> {
        let share = pixels.div_ceil(UNIT).clamp(1, self.most) as u32;
        let closed = |_| PictureError::undecodable("the pool is closed");
        let share = Arc::clone(&self.pixels).acquire_many_owned(share).await.map_err(closed)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(closed)?;
        // Dropped with this future, which is when the caller leaves.
        let caller = Arc::new(());
        let waits = Arc::downgrade(&caller);
        let span = tracing::Span::current();
        let task = tokio::task::spawn_blocking(move || {
            let _permits = (share, turn);
            if waits.strong_count() == 0 {
                return Err(PictureError::undecodable("the caller is gone"));
            }
            span.in_scope(work)
        });
        let result = task.await.map_err(|_| PictureError::undecodable("the decoder panicked"))?;
        drop(caller);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn large_requests_take_turns_and_small_ones_do_not_wait() {
        let pool = Pool::new(MAX_PIXELS, 1);
        let first = pool.turn(LARGE).await;
        assert!(first.is_some());
        let mut second = pin!(pool.turn(64 * LARGE));
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(pool.turn(LARGE - 1).await.is_none());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_pixels_than_the_bound_are_decoded_at_a_time() {
        let pool = Arc::new(Pool::new(10 * UNIT, 8));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (started, begun) = mpsc::channel();
        let mut tasks = Vec::new();
        for _ in 0..12 {
            let (pool, now, most, started) =
                (Arc::clone(&pool), Arc::clone(&now), Arc::clone(&most), started.clone());
            tasks.push(tokio::spawn(async move {
                let work = move || {
                    let together = now.fetch_add(4, Ordering::SeqCst) + 4;
                    most.fetch_max(together, Ordering::SeqCst);
                    let _ = started.send(());
                    std::thread::yield_now();
                    now.fetch_sub(4, Ordering::SeqCst);
                    Ok(())
                };
                pool.run(4 * UNIT, work).await
            }));
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(begun.try_iter().count(), 12);
        assert!(most.load(Ordering::SeqCst) <= 8, "two of four fit in ten");
        assert_eq!(pool.pixels.available_permits(), 10, "all is given back");
    }

    #[tokio::test]
    async fn an_image_larger_than_the_bound_is_decoded_alone() {
        let pool = Pool::new(4 * UNIT, 2);
        assert_eq!(pool.run(1000 * UNIT, || Ok(7)).await, Ok(7));
        assert_eq!(pool.run(0, || Ok(8)).await, Ok(8));
    }

    #[tokio::test]
    async fn the_share_is_held_until_the_work_is_done_though_the_caller_is_gone() {
        let pool = Arc::new(Pool::new(UNIT, 1));
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let caller = {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let work = move || {
                    let _ = begin.send(());
                    let _ = released.recv();
                    Ok(())
                };
                pool.run(UNIT, work).await
            })
        };
        begun.await.unwrap();
        caller.abort();
        let _ = caller.await;
        assert_eq!(pool.pixels.available_permits(), 0, "the work goes on, and so does its share");
        // One that waits and leaves takes nothing with it and never begins.
        let waiting = {
            let pool = Arc::clone(&pool);
            tokio::spawn(
                async move { pool.run(UNIT, || -> Result<(), _> { panic!("it must not begin") }).await },
            )
        };
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        release.send(()).unwrap();
        assert_eq!(pool.run(UNIT, || Ok(1)).await, Ok(1));
        assert_eq!((pool.pixels.available_permits(), pool.turns.available_permits()), (1, 1));
    }
}
