//! What every call passes on its way in and out: admission before its message is read, a count of the calls in flight, and an
//! answer for the caller when the service ends or its code panics.

mod answer;
mod aside;
mod packed;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::admission::{Admission, Permit};
use crate::client::CALLER;
use crate::doorkeeper::Doorkeeper;
use crate::tls::{Callers, Names};
use crate::{Refusal, Shutdown};
use answer::{Answer, Held};
use aside::Aside;
use packed::Unpacker;

/// Methods of health, which are open to all.
const HEALTH: &str = "/grpc.health.";

/// How many calls are in flight, and how many connections belong to services and callers that may call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct InFlight {
    pub(crate) calls: usize,
    pub(crate) callers: usize,
}

/// The gate of one server; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    /// For the service's own methods that work.
    admission: Admission,
    /// For calls that take none of those places, so that whoever asks whether a service is well hears so when all are taken.
    aside: Aside,
    receive: Duration,
    send: Duration,
    callers: Arc<Callers>,
    keeper: Option<Arc<dyn Doorkeeper>>,
    in_flight: Arc<watch::Sender<InFlight>>,
    /// Connections are told to go away, and health and reflection end. A call that its caller began before it heard of that is
    /// still taken.
    pub(crate) leaving: Shutdown,
    /// Calls in flight end, and new ones are refused.
    pub(crate) cut_off: Shutdown,
}

impl Gate {
    /// Lets in `limit` calls of `callers` at a time, whose messages take at most `max_bytes` together and `receive` each to arrive, and
    /// whose answers are read on within `send`.
    pub(crate) fn new(
        limit: usize,
        max_bytes: usize,
        receive: Duration,
        send: Duration,
        callers: Callers,
    ) -> Self {
        Self {
            admission: Admission::new(limit, max_bytes),
            aside: Aside::default(),
            receive,
            send,
            callers: Arc::new(callers),
            keeper: None,
            in_flight: Arc::new(watch::Sender::new(InFlight::default())),
            leaving: Shutdown::new(),
            cut_off: Shutdown::new(),
        }
    }

    /// The same gate, at which `keeper` decides, too.
    pub(crate) fn kept_by(self, keeper: Arc<dyn Doorkeeper>) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// Whether somebody decides who is let in.
    pub(crate) fn is_kept(&self) -> bool {
        self.keeper.is_some()
    }

    /// What is known of a new connection.
    pub(crate) fn peer(&self, is_remote: bool) -> Peer {
        Peer(Arc::new(Known {
            is_remote,
            is_caller: AtomicBool::new(false),
            names: OnceLock::new(),
            calls: watch::Sender::new(0),
            in_flight: Arc::clone(&self.in_flight),
        }))
    }

    /// Tells of the places that are taken as long as there is a gate: for metrics, which outlive it.
    pub(crate) fn places_taken(&self) -> impl Fn() -> Option<usize> + Send + Sync + 'static {
        self.admission.places_taken()
    }

    pub(crate) fn in_flight(&self) -> InFlight {
        *self.in_flight.borrow()
    }

    /// Waits until `condition` holds of the calls in flight.
    pub(crate) async fn wait_for(&self, condition: impl Fn(InFlight) -> bool) {
        // An error means that the sender is gone, which is in `self`.
        let _ = self.in_flight.subscribe().wait_for(|in_flight| condition(*in_flight)).await;
    }

    /// What the doorkeeper gives for a call from another process; none for health, and where there is no doorkeeper.
    fn visit(&self, request: &mut Request<Body>) -> Result<Option<Box<dyn Any + Send>>, Refusal> {
        match &self.keeper {
            Some(keeper) if !request.uri().path().starts_with(HEALTH) => keeper.admit(request).map(Some),
            _ => Ok(None),
        }
    }

    fn enter(&self, request: &mut Request<Body>) -> Result<Entered, Refusal> {
        let is_own = !request.uri().path().starts_with("/grpc.");
        if self.cut_off.is_cancelled() {
            return Err(Refusal::unavailable("the service is shutting down"));
        }
        let peer = request.extensions().get::<Peer>().cloned();
        let visit = match &peer {
            Some(Peer(known)) if known.is_remote => {
                self.callers.check(known.names.get(), request.uri().path())?;
                self.visit(request)?
            }
            // Nobody knows where it comes from.
            None if self.keeper.is_some() => {
                return Err(Refusal::unauthenticated("the call has no connection that is known"));
            }
            _ => None,
        };
        // Where strangers may come, what they say of themselves does not hold up a drain.
        let is_caller = is_own || (self.keeper.is_none() && request.headers().contains_key(CALLER));
        if let Some(peer) = &peer
            && is_caller
        {
            peer.is_caller();
        }
        let works = is_own && !is_question(request.uri().path());
        let admission = if works { &self.admission } else { self.aside.of(request.uri().path(), is_own) };
        let permit = admission.admit()?;
        let call = is_own.then(|| Call::begin(&self.in_flight, peer));
        let ends = if is_own { &self.cut_off } else { &self.leaving };
        Ok(Entered { permit, call, visit, ends: ends.clone() })
    }
}

/// Whether a method only tells what is loaded: those are named Get… and List….
fn is_question(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(_, method)| method.starts_with("Get") || method.starts_with("List"))
}

/// A call that was let in.
struct Entered {
    permit: Permit,
    call: Option<Call>,
    /// What the doorkeeper counts, until the call has ended.
    visit: Option<Box<dyn Any + Send>>,
    ends: Shutdown,
}

/// Counts as a call in flight, of the service and of its connection, until it is dropped.
struct Call {
    in_flight: Arc<watch::Sender<InFlight>>,
    peer: Option<Peer>,
}

impl Call {
    fn begin(in_flight: &Arc<watch::Sender<InFlight>>, peer: Option<Peer>) -> Self {
        in_flight.send_modify(|in_flight| in_flight.calls += 1);
        if let Some(Peer(known)) = &peer {
            known.calls.send_modify(|calls| *calls += 1);
        }
        Self { in_flight: Arc::clone(in_flight), peer }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.in_flight.send_modify(|in_flight| in_flight.calls -= 1);
        if let Some(Peer(known)) = &self.peer {
            known.calls.send_modify(|calls| *calls -= 1);
        }
    }
}

/// One connection, as its requests know it.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Arc<Known>);

#[derive(Debug)]
struct Known {
    /// Whether it comes from another process.
    is_remote: bool,
    is_caller: AtomicBool,
    /// Those of the certificate that it has shown.
    names: OnceLock<Names>,
    /// Calls of the service's own methods in flight on this connection.
    calls: watch::Sender<usize>,
    in_flight: Arc<watch::Sender<InFlight>>,
}

impl Peer {
    /// Notes the names of the certificate that the other end has shown.
    pub(crate) fn is_named(&self, names: Names) {
        let _ = self.0.names.set(names);
    }

    fn is_caller(&self) {
        if !self.0.is_caller.swap(true, Ordering::Relaxed) {
            self.0.in_flight.send_modify(|in_flight| in_flight.callers += 1);
        }
    }

    /// Waits until no call is in flight on the connection.
    pub(crate) async fn is_idle(&self) {
        // An error means that the sender is gone, which is in `self`.
        let _ = self.0.calls.subscribe().wait_for(|calls| *calls == 0).await;
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if *self.is_caller.get_mut() {
            self.in_flight.send_modify(|in_flight| in_flight.callers -= 1);
        }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { inner, gate: self.clone() }
    }
}

/// See [`Gate`].
#[derive(Debug, Clone)]
pub(crate) struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Entered { permit, call, visit, ends } = match self.gate.enter(&mut request) {
            Ok(entered) => entered,
            Err(refusal) => return Box::pin(async { Ok(Status::from(refusal).into_http()) }),
        };
        let late = call.is_some().then(|| Box::pin(tokio::time::sleep(self.gate.receive)));
        let (place, send) = (permit.place(), self.gate.send);
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(permit.clone());
        let unpacker = Unpacker::of(&mut parts.headers, &permit);
        let message = Message { body, unpacker, permit, late, seconds: self.gate.receive.as_secs() };
        let request = Request::from_parts(parts, Body::new(message));
        // The one that was polled to be ready is the one to call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let answer = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
            let (mut parts, body) = tokio::select! {
                biased;
                answer = answer => match answer {
                    Ok(answer) => answer?.into_parts(),
                    Err(panic) => return Ok(panicked(panic.as_ref()).into_http()),
                },
                () = ends.cancelled() => return Ok(ended().into_http()),
            };
            let (name, encodings) = packed::ACCEPTED;
            parts.headers.insert(name, encodings);
            let ends = Some(Box::pin(ends.cancelled_owned()));
            let held = Held { body, ends, _call: call, _visit: visit, _place: place };
            Ok(Response::from_parts(parts, Body::new(Answer::new(held, send))))
        })
    }
}

/// The message of a call on its way in: its bytes are counted, as they are unpacked, and it has to arrive in time.
struct Message {
    body: Body,
    unpacker: Option<Unpacker>,
    permit: Permit,
    late: Option<Pin<Box<Sleep>>>,
    seconds: u64,
}

impl http_body::Body for Message {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Some(unpacker), Poll::Ready(Some(Ok(frame)))) = (&mut self.unpacker, &polled)
            && let Some(data) = frame.data_ref()
        {
            let unpacked = unpacker.unpack(data).map(Frame::data).map_err(Status::from);
            return Poll::Ready(Some(unpacked));
        }
        match &polled {
            Poll::Pending => {
                let is_late = self.late.as_mut().is_some_and(|late| late.as_mut().poll(context).is_ready());
                if is_late {
                    let setting = "server.receive_seconds";
                    let why = format!("the request did not arrive within {} s ({setting})", self.seconds);
                    return Poll::Ready(Some(Err(Refusal::deadline_exceeded(setting, why).into())));
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if let Err(refusal) = self.permit.add_bytes(bytes) {
                    return Poll::Ready(Some(Err(refusal.into())));
                }
            }
            Poll::Ready(_) => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.unpacker.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}

fn ended() -> Status {
    Refusal::unavailable("the service is shutting down and its drain time is over").into()
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    tracing::error!(panic = text, "a call panicked");
    Refusal::internal("the service panicked; its log says more").into()
}
