//! The answer of a call on its way out. It ends with a status whatever happens to what makes it, and holds nothing any more when its
//! caller has stopped to read.
//!
//! HTTP/2 asks for the next part of an answer only when the caller has room for it. So a caller that stops to read would hold its place
//! for as long as its connection lasts, whatever its deadline. A task looks whether the answer waits for the caller, and for how
//! long; time in which the caller waits for the answer does not count.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;

use super::{Call, ended, panicked};
use crate::Refusal;
use crate::admission::Places;

/// See the [module](self).
pub(super) struct Answer {
    state: Arc<Mutex<State>>,
    seconds: u64,
    _watch: AbortOnDropHandle<()>,
}

struct State {
    /// None when it was given up.
    held: Option<Held>,
    /// Since when the caller could read on; none while it waits for more.
    unread_since: Option<Instant>,
}

/// What an answer holds as long as it lasts.
pub(super) struct Held {
    pub(super) body: Body,
    pub(super) ends: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    pub(super) _call: Option<Call>,
    pub(super) _visit: Option<Box<dyn Any + Send>>,
    pub(super) _place: Option<Places>,
}

impl Answer {
    /// Gives up what is `held` when the caller has not read on for so long.
    pub(super) fn new(held: Held, patience: Duration) -> Self {
        let state = State { held: Some(held), unread_since: Some(Instant::now()) };
        let state = Arc::new(Mutex::new(state));
        let watch = tokio::spawn(give_up_unread(Arc::downgrade(&state), patience));
        Self { state, seconds: patience.as_secs(), _watch: AbortOnDropHandle::new(watch) }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops what an answer holds once it has not been read for so long, and the work for it.
async fn give_up_unread(state: Weak<Mutex<State>>, patience: Duration) {
    let mut look = Instant::now() + patience;
    loop {
        tokio::time::sleep_until(look).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = lock(&state);
        let due = state.unread_since.unwrap_or_else(Instant::now) + patience;
        if due <= Instant::now() {
            let held = state.held.take();
            drop(state);
            if held.is_some() {
                tracing::warn!(
                    seconds = patience.as_secs(),
                    "an answer is not read and is given up (server.send_seconds)"
                );
            }
            return;
        }
        look = due;
    }
}

impl Held {
    /// Ends with `status`; what was still to come is dropped, and with it the work for it.
    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = Body::empty();
        self.ends = None;
        trailers(status)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let body = &mut self.body;
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            http_body::Body::poll_frame(Pin::new(body), context)
        }));
        match polled {
            Err(panic) => self.end_with(&panicked(panic.as_ref())),
            Ok(Poll::Pending)
                if self.ends.as_mut().is_some_and(|ends| ends.poll_unpin(context).is_ready()) =>
            {
                self.end_with(&ended())
            }
            Ok(polled) => polled,
        }
    }
}

fn trailers(status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
    let mut trailers = HeaderMap::new();
    Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut state = lock(&self.state);
        let Some(held) = &mut state.held else {
            let setting = "server.send_seconds";
            let why = format!("the answer was not read for {} s ({setting})", self.seconds);
            return trailers(&Refusal::deadline_exceeded(setting, why).into());
        };
        let polled = held.poll(context);
        state.unread_since = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.state).held.as_ref().is_some_and(|held| held.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.state).held.as_ref().map_or_else(SizeHint::default, |held| held.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use http_body::Body as _;
    use tokio::sync::mpsc;

    use super::*;

    /// A body that gives what is sent to it.
    struct Sent(mpsc::Receiver<Bytes>);

    impl http_body::Body for Sent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_while_the_answer_waits_and_not_while_the_caller_does() {
        let (sender, receiver) = mpsc::channel(1);
        let held =
            Held { body: Body::new(Sent(receiver)), ends: None, _call: None, _visit: None, _place: None };
        let mut answer = Answer::new(held, Duration::from_mins(1));
        for _ in 0..3 {
            let asked = poll_fn(|context| Pin::new(&mut answer).poll_frame(context));
            let send = async {
                tokio::time::sleep(Duration::from_hours(1)).await;
                sender.send(Bytes::from_static(b"more")).await.unwrap();
            };
            let (frame, ()) = tokio::join!(asked, send);
            assert!(frame.unwrap().unwrap().is_data());
            tokio::time::sleep(Duration::from_secs(59)).await;
        }
        assert!(!sender.is_closed());
        tokio::time::sleep(Duration::from_secs(62)).await;
        assert!(sender.is_closed(), "what makes the answer is dropped");
        let last = poll_fn(|context| Pin::new(&mut answer).poll_frame(context)).await.unwrap().unwrap();
        let status = Status::from_header_map(&last.into_trailers().unwrap()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains("not read for 60 s (server.send_seconds)"), "{status}");
    }
}
