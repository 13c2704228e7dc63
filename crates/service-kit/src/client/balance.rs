//! The channel that generated clients call through: each call goes to one replica, and to another if that one cannot take it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::{Status, TimeoutExpired};
use tower::{BoxError, Service, ServiceExt as _};

use super::endpoint::{Endpoint, InFlight};
use super::endpoints::{Endpoints, is_name};
use super::measured::measured;
use super::retry::{ATTEMPTS, Budget, Verdict, judge, wait_after};
use super::{Addresses, credential, health};
use crate::context::parse_timeout;
use crate::{Refusal, is_caused_by};

const TIMEOUT: &str = "grpc-timeout";
/// gRPC writes at most eight digits.
const LONGEST_TIMEOUT: u128 = 99_999_999;

/// A channel to all replicas of a service; cheap to clone. When the last clone is gone, so are the connections.
///
/// A call that has one message and is one of Reverie's own is tried again on another replica, as long as no message of its answer has
/// arrived: all those methods may be called twice (decision 22).
#[derive(Debug, Clone)]
pub struct Channel {
    endpoints: Arc<Endpoints>,
    /// Calls go to this one alone.
    only: Option<Arc<Endpoint>>,
    budget: Arc<Budget>,
    has_names: bool,
    looked_after: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Channel {
    pub(super) fn new(name: &'static str, addresses: &Addresses) -> Self {
        let (endpoints, task) = Endpoints::new(name, addresses);
        Self {
            endpoints,
            only: None,
            budget: Arc::new(Budget::new()),
            has_names: addresses.iter().any(is_name),
            looked_after: task.map(Arc::new),
        }
    }

    /// A channel to each replica that is fit for calls, with its address; this one alone where none is known to be.
    pub(super) fn each(&self) -> Vec<(Option<String>, Self)> {
        let live = self.endpoints.live();
        match &live[..] {
            [] => return vec![(None, self.clone())],
            [only] => return vec![(Some(only.place.address.to_string()), self.clone())],
            _ => {}
        }
        let pinned = |only: Arc<Endpoint>| {
            (Some(only.place.address.to_string()), Self { only: Some(only), ..self.clone() })
        };
        live.into_iter().map(pinned).collect()
    }

    /// Takes what came of asking for the health of a single replica, which nobody else watches.
    pub(super) fn note(&self, answer: &health::Answer) {
        if let (None, [only]) = (&self.looked_after, &self.endpoints.members()[..]) {
            only.set_health(health::of_answer(answer));
        }
    }

    /// Whether further replicas may turn up: a name is resolved again and again.
    pub(super) fn may_find_others(&self) -> bool {
        self.has_names
    }

    async fn choose(&self, tried: &[Arc<Endpoint>]) -> Result<Arc<Endpoint>, BoxError> {
        match &self.only {
            Some(only) => Ok(Arc::clone(only)),
            None => self.endpoints.choose(tried).await.map_err(|why| {
                let refusal = Refusal::unavailable(why);
                Status::from(refusal).into()
            }),
        }
    }

    /// A call that is sent once.
    async fn pass(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let call = self.choose(&[]).await?.begin();
        let response = call.endpoint.transport().oneshot(request).await?;
        Ok(response.map(|body| Body::new(Answer::new(Bytes::new(), body, call, None))))
    }

    /// A call that is sent until a replica takes it.
    async fn retry(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        let message = match at_hand(body) {
            Ok(message) => message,
            Err(body) => return self.pass(Request::from_parts(parts, body)).await,
        };
        let timeout =
            parts.headers.get(TIMEOUT).and_then(|value| value.to_str().ok()).and_then(parse_timeout);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.budget.earn();
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut attempt = 1;
        // What the caller hears where no attempt does better.
        let mut best: Option<Outcome> = None;
        loop {
            let call = match (self.choose(&tried).await, best.take()) {
                (Ok(endpoint), kept) => {
                    best = kept;
                    endpoint.begin()
                }
                (Err(_), Some(best)) => return best.into_result(),
                (Err(error), None) => return Err(error),
            };
            let endpoint = Arc::clone(&call.endpoint);
            let mut request = Request::from_parts(parts.clone(), Body::new(Full::new(message.clone())));
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis();
                let left = HeaderValue::from_str(&format!("{}m", left.clamp(1, LONGEST_TIMEOUT)))?;
                request.headers_mut().insert(TIMEOUT, left);
            }
            let outcome = self.clone().attempt(request, call).await;
            let verdict = outcome.verdict();
            match verdict {
                Verdict::Final if outcome.is_of_replica() => endpoint.succeeded(),
                Verdict::Final => {}
                Verdict::OtherModels => endpoint.succeeded(),
                Verdict::Unavailable(pushback) => endpoint.failed(pushback, self.endpoints.may_eject()),
            }
            let is_known = tried.iter().any(|tried| Arc::ptr_eq(tried, &endpoint));
            if !is_known {
                tried.push(Arc::clone(&endpoint));
            }
            let wait = match verdict {
                Verdict::Final => None,
                // The refusal is cheap and tells all there is to know of this replica: the others are asked, once each.
                Verdict::OtherModels => (!is_known && self.has_untried(&tried)).then_some(Duration::ZERO),
                Verdict::Unavailable(_) => {
                    let may = attempt < ATTEMPTS && self.only.is_none() && self.budget.spend();
                    attempt += 1;
                    // Another replica has not asked to be left alone.
                    let pushback =
                        if self.has_untried(&tried) { Duration::ZERO } else { endpoint.pushback() };
                    may.then(|| wait_after(attempt - 1).max(pushback))
                }
            };
            // The first of those that say as much.
            let better = match best.take() {
                Some(best) if best.rank() >= outcome.rank() => best,
                _ => outcome,
            };
            let in_time = |wait: &Duration| deadline.is_none_or(|deadline| Instant::now() + *wait < deadline);
            let Some(wait) = wait.filter(in_time) else { return better.into_result() };
            let (stage, address) = (self.endpoints.name, &endpoint.place.address);
            tracing::debug!(stage, %address, ?verdict, "trying again");
            best = Some(better);
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether there is a replica fit for calls that was not tried.
    fn has_untried(&self, tried: &[Arc<Endpoint>]) -> bool {
        let is_tried = |member: &Arc<Endpoint>| tried.iter().any(|tried| Arc::ptr_eq(tried, member));
        self.only.is_none() && self.endpoints.live().iter().any(|member| !is_tried(member))
    }

    /// Sends a call and waits for the first message of its answer.
    async fn attempt(self, request: Request<Body>, call: InFlight) -> Outcome {
        let given_up = call.given_up.clone();
        let answer = async {
            let response = match call.endpoint.transport().oneshot(request).await {
                Ok(response) => response,
                Err(error) => return Outcome::Broken(error.into()),
            };
            if let Some(status) = Status::from_header_map(response.headers()) {
                return Outcome::Ended(
                    status,
                    response.map(|body| Body::new(Answer::new(Bytes::new(), body, call, None))),
                );
            }
            let (parts, mut body) = response.into_parts();
            let first = loop {
                match body.frame().await {
                    // A message is at least its five bytes of prefix.
                    Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                    Some(Ok(frame)) => break frame,
                    Some(Err(status)) => return Outcome::Broken(status.into()),
                    None => {
                        return Outcome::Broken(Status::unknown("the answer ended without a status").into());
                    }
                }
            };
            match first.into_data() {
                Ok(data) => {
                    let answer = Answer::new(data, body, call, Some(self.endpoints));
                    Outcome::Begun(Response::from_parts(parts, Body::new(answer)))
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let status = Status::from_header_map(&trailers);
                    let body = Full::new(Bytes::new()).with_trailers(std::future::ready(Some(Ok(trailers))));
                    let response = Response::from_parts(parts, Body::new(body));
                    // An empty stream ends well without a message.
                    match status {
                        Some(status) => Outcome::Ended(status, response),
                        None => Outcome::Begun(response),
                    }
                }
            }
        };
        tokio::select! {
            outcome = answer => outcome,
            () = given_up.cancelled() => Outcome::Broken(silent().into()),
        }
    }
}

/// The message of a call, if all of it is there already; otherwise a body that gives what was read and then the rest. Nobody says
/// how long the rest may take, so it cannot be waited for.
fn at_hand(mut body: Body) -> Result<Bytes, Body> {
    let mut read: Vec<Bytes> = Vec::new();
    let next = loop {
        match body.frame().now_or_never() {
            Some(None) => break None,
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => read.push(data),
                Err(other) => break Some(Some(Ok(other))),
            },
            Some(Some(Err(error))) => break Some(Some(Err(error))),
            None => break Some(None),
        }
    };
    match (next, &read[..]) {
        (None, [only]) => Ok(only.clone()),
        (None, parts) => Ok(parts.concat().into()),
        (Some(next), _) => {
            let read = read.into_iter().map(|data| Ok(Frame::data(data))).chain(next);
            Err(Body::new(StreamBody::new(stream::iter(read).chain(BodyStream::new(body)))))
        }
    }
}

fn silent() -> Status {
    Status::unavailable("the replica does not answer any more")
}

/// What came of an attempt.
enum Outcome {
    /// The answer has begun, or the call ended well.
    Begun(Response<Body>),
    /// A status came instead of a message.
    Ended(Status, Response<Body>),
    /// The connection failed.
    Broken(BoxError),
}

impl Outcome {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Begun(_) => Verdict::Final,
            Self::Ended(status, _) => judge(status),
            Self::Broken(error) if is_time_up(error.as_ref()) => Verdict::Final,
            Self::Broken(_) => Verdict::Unavailable(None),
        }
    }

    /// How much it tells the caller.
    fn rank(&self) -> u8 {
        match (self, self.verdict()) {
            (_, Verdict::Final) => 3,
            (_, Verdict::OtherModels) => 2,
            (Self::Ended(..), Verdict::Unavailable(_)) => 1,
            (_, Verdict::Unavailable(_)) => 0,
        }
    }

    /// Whether the replica answered, as opposed to the call's own timer.
    fn is_of_replica(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }

    fn into_result(self) -> Result<Response<Body>, BoxError> {
        match self {
            Self::Begun(response) | Self::Ended(_, response) => Ok(response),
            Self::Broken(error) if is_time_up(error.as_ref()) => Err(error),
            // However it failed, and whether before the request was sent or after: the replica is gone.
            Self::Broken(error) => {
                let mut status = Status::unavailable(error.to_string());
                status.set_source(Arc::from(error));
                Err(status.into())
            }
        }
    }
}

/// Whether the call's own timer ended it.
pub(super) fn is_time_up(error: &(dyn std::error::Error + 'static)) -> bool {
    is_caused_by::<TimeoutExpired>(error)
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        credential::add(request.headers_mut());
        // Reverie's own methods take one message; those of others may talk back and forth.
        if request.uri().path().starts_with("/reverie.") {
            let path = request.uri().path().trim_start_matches('/').to_owned();
            measured(path, self.clone().retry(request)).boxed()
        } else {
            self.clone().pass(request).boxed()
        }
    }
}

/// The rest of an answer. Its call is in flight until it is dropped.
struct Answer {
    first: Option<Bytes>,
    body: Body,
    call: InFlight,
    /// Ends the answer when the replica falls silent.
    given_up: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Of a call of Reverie's own, whose failures count.
    endpoints: Option<Arc<Endpoints>>,
}

impl Answer {
    fn new(first: Bytes, body: Body, call: InFlight, endpoints: Option<Arc<Endpoints>>) -> Self {
        let given_up = Box::pin(call.given_up.clone().cancelled_owned());
        Self { first: (!first.is_empty()).then_some(first), body, call, given_up, endpoints }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Err(_))), Some(endpoints)) = (&polled, &self.endpoints) {
            self.call.endpoint.failed(None, endpoints.may_eject());
        }
        if polled.is_pending() && self.given_up.poll_unpin(context).is_ready() {
            return Poll::Ready(Some(Err(silent())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }
}
