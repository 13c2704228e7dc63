//! The way of events from the images of a request to its caller: bounded, and measured.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use futures::task::AtomicWaker;
use reverie_proto::generation::v1::Preview;
use reverie_proto::generation::v1::generate_response::Event;
use tokio::sync::mpsc::{self, Receiver, Sender};

/// The sending end.
#[derive(Debug, Clone)]
pub(crate) struct News {
    events: Sender<(Event, Instant)>,
    lag: Arc<Lag>,
    shown: Arc<Shown>,
    /// What an answer takes at least.
    least: Duration,
}

/// The receiving end: the events, in the order in which they were told, and what is shown when there are none.
#[derive(Debug)]
pub(crate) struct Told {
    events: Receiver<(Event, Instant)>,
    lag: Arc<Lag>,
    shown: Arc<Shown>,
}

/// Previews between steps that wait for the caller: the latest of each image.
#[derive(Debug, Default)]
struct Shown {
    latest: Mutex<BTreeMap<u32, Preview>>,
    reader: AtomicWaker,
}

/// How long events wait until the caller takes them.
#[derive(Debug, Default)]
struct Lag(Mutex<Duration>);

/// A channel in which `capacity` events wait for a caller that does not read; `least` is what an answer takes of which nothing is seen
/// here, such as its way through the network.
pub(crate) fn channel(capacity: usize, least: Duration) -> (News, Told) {
    let (sender, events) = mpsc::channel(capacity);
    let (lag, shown) = (Arc::<Lag>::default(), Arc::<Shown>::default());
    let news = News { events: sender, lag: Arc::clone(&lag), shown: Arc::clone(&shown), least };
    (news, Told { events, lag, shown })
}

impl News {
    /// Tells the caller, and waits if it lags behind. One that is gone hears nothing; the images are then cancelled from outside.
    pub(crate) async fn tell(&self, event: Event) {
        let _ = self.events.send((event, Instant::now())).await;
    }

    /// Tells the caller, or nobody if it lags behind.
    pub(crate) fn offer(&self, event: Event) {
        let _ = self.events.try_send((event, Instant::now()));
    }

    /// Shows a preview between steps, in place of the one before it if that was not taken yet.
    pub(crate) fn show(&self, preview: Preview) {
        self.shown.latest().insert(preview.index, preview);
        self.shown.reader.wake();
    }

    /// Shows no preview of the image at `index` any more.
    pub(crate) fn hide(&self, index: u32) {
        self.shown.latest().remove(&index);
    }

    /// How long before the deadline an event has to be told so that this caller has it in time: as long as the events before it waited
    /// for it.
    pub(crate) fn time_to_answer(&self) -> Duration {
        self.least + *self.lag.lock()
    }
}

impl Shown {
    fn latest(&self) -> MutexGuard<'_, BTreeMap<u32, Preview>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lag {
    fn lock(&self) -> MutexGuard<'_, Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event waited for `time`. A longer lag counts at once, a shorter one half.
    fn note(&self, time: Duration) {
        let mut lag = self.lock();
        *lag = time.max((*lag + time) / 2);
    }
}

impl Stream for Told {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let Self { events, lag, shown } = self.get_mut();
        if let Poll::Ready(next) = events.poll_recv(context) {
            return Poll::Ready(next.map(|(event, told)| {
                lag.note(told.elapsed());
                event
            }));
        }
        // Before the look, so that none is missed that comes after it.
        shown.reader.register(context.waker());
        match shown.latest().pop_first() {
            Some((_, preview)) => Poll::Ready(Some(Event::Preview(preview))),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use reverie_proto::generation::v1::Progress;

    use super::*;

    fn event(step: u32) -> Event {
        Event::Progress(Progress { step, ..Progress::default() })
    }

    #[tokio::test]
    async fn what_is_offered_gives_way_and_what_is_told_does_not() {
        let (news, told) = channel(2, Duration::ZERO);
        (1..=5).for_each(|step| news.offer(event(step)));
        let telling = tokio::spawn(async move { news.tell(event(9)).await });
        let told: Vec<_> = told.collect().await;
        telling.await.unwrap();
        assert_eq!(told, [1, 2, 9].map(event));
    }

    #[tokio::test]
    async fn of_previews_between_steps_the_latest_waits() {
        let (news, mut told) = channel(2, Duration::ZERO);
        let preview = |index, step| Preview { index, step, ..Preview::default() };
        for step in 1..=1000 {
            (0..3).for_each(|index| news.show(preview(index, step)));
        }
        news.hide(1);
        news.tell(event(9)).await;
        assert_eq!(told.next().await, Some(event(9)), "what matters comes first");
        for index in [0, 2] {
            assert_eq!(told.next().await, Some(Event::Preview(preview(index, 1000))));
        }
        // A reader that waits is woken.
        let waiting = tokio::spawn(async move { told.next().await });
        tokio::task::yield_now().await;
        news.show(preview(0, 1001));
        assert_eq!(waiting.await.unwrap(), Some(Event::Preview(preview(0, 1001))));
    }

    #[tokio::test]
    async fn a_caller_that_reads_late_is_answered_early() {
        let (news, mut told) = channel(8, Duration::from_millis(50));
        assert_eq!(news.time_to_answer(), Duration::from_millis(50));
        let (before, now) = (Instant::now().checked_sub(Duration::from_secs(2)).unwrap(), Instant::now());
        for at in [before, now] {
            news.events.send((event(1), at)).await.unwrap();
        }
        told.next().await.unwrap();
        assert!(news.time_to_answer() >= Duration::from_millis(2050));
        told.next().await.unwrap();
        let lag = news.time_to_answer();
        assert!(lag >= Duration::from_millis(1050) && lag < Duration::from_millis(2050), "{lag:?}");
    }
}
