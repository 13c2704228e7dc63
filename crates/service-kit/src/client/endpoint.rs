//! One replica: the connection to it, what is known of its health, and the calls that it has in flight.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tonic::transport::{Channel as Transport, Endpoint as Target};

use crate::{Address, Shutdown, tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 flow-control windows: a 1024 px picture of raw pixels (3 MiB) must not wait for window updates.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Failures in a row after which a replica is left out.
const FAILURES: u32 = 3;
/// For how long at first; each time that it fails again, for twice as long.
const FIRST_EJECTION: Duration = Duration::from_secs(1);
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// What the health of a replica is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Serving,
    /// It says itself that it does not serve: it drains, or cannot work.
    NotServing,
    /// It has not answered yet, or no longer.
    Unknown,
}

/// How fit a replica is for a call; the lower, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    Live,
    Ejected,
    NotServing,
    Unknown,
}

/// How to reach a replica.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) address: Address,
    /// The URL that it was found by, which is what its authority is called.
    pub(super) origin: Option<http::Uri>,
}

impl Place {
    /// Connects with the first call, and again whenever the connection is lost.
    fn transport(&self) -> Transport {
        let tuned = |target: Target| {
            target
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                // The default limit of 1,024 counts over the whole life of a connection and ends it for everyone, also for what the server
                // sent before it heard that a call was cancelled.
                .http2_max_local_error_reset_streams(None)
                .tcp_nodelay(true)
        };
        match &self.address {
            Address::Uri(uri) if self.address.is_secure() => {
                // Both are there: an address is not read without them.
                let host_and_port =
                    format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(443));
                let name = self.origin.as_ref().unwrap_or(uri).host().unwrap_or_default().to_owned();
                let origin = self.origin.clone().unwrap_or_else(|| uri.clone());
                tuned(Target::from_static("http://secure"))
                    .origin(origin)
                    .connect_with_connector_lazy(tls::connector(None, name, host_and_port))
            }
            Address::Uri(uri) => {
                let target = tuned(Target::from(uri.clone()));
                match &self.origin {
                    Some(origin) => target.origin(origin.clone()).connect_lazy(),
                    None => target.connect_lazy(),
                }
            }
            Address::Memory(sender) => {
                let sender = sender.clone();
                let connector = tower::service_fn(move |_: http::Uri| {
                    let sender = sender.clone();
                    async move { Address::connect_memory(&sender).await.map(TokioIo::new) }
                });
                tuned(Target::from_static("http://memory")).connect_with_connector_lazy(connector)
            }
        }
    }
}

/// One replica.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) place: Place,
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    transport: Transport,
    health: Health,
    /// Calls in flight end when it is cancelled.
    given_up: Shutdown,
    failures: u32,
    ejections: u32,
    /// Left out until then.
    ejected_until: Option<Instant>,
    /// A call finds out whether it is well again.
    is_probed: bool,
    /// It asked not to be called before.
    not_before: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(place: Place, health: Health) -> Self {
        let state = State {
            transport: place.transport(),
            health,
            given_up: Shutdown::new(),
            failures: 0,
            ejections: 0,
            ejected_until: None,
            is_probed: false,
            not_before: None,
        };
        Self { place, in_flight: AtomicUsize::new(0), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn transport(&self) -> Transport {
        self.state().transport.clone()
    }

    /// Closes the connection once its calls have ended: a replica that drains waits for its callers.
    pub(super) fn leave(&self) {
        self.state().transport = self.place.transport();
    }

    pub(super) fn health(&self) -> Health {
        self.state().health
    }

    pub(super) fn set_health(&self, health: Health) {
        self.state().health = health;
    }

    /// Ends the calls in flight, so that they are tried elsewhere.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        std::mem::take(&mut state.given_up).cancel();
        state.transport = self.place.transport();
    }

    pub(super) fn fitness(&self) -> Fitness {
        let state = self.state();
        let now = Instant::now();
        match state.health {
            Health::NotServing => Fitness::NotServing,
            Health::Unknown => Fitness::Unknown,
            Health::Serving if state.is_ejected(now) || state.is_not_before(now) => Fitness::Ejected,
            Health::Serving => Fitness::Live,
        }
    }

    /// How long it asked not to be called.
    pub(super) fn pushback(&self) -> Duration {
        let not_before = self.state().not_before;
        not_before.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether it is left out because its calls failed.
    pub(super) fn is_ejected(&self) -> bool {
        self.state().is_ejected(Instant::now())
    }

    /// Begins a call.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let is_probe = state.ejected_until.is_some();
        state.is_probed |= is_probe;
        InFlight { endpoint: Arc::clone(self), given_up: state.given_up.clone(), is_probe }
    }

    /// Notes that a call was answered.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.ejections = 0;
        state.ejected_until = None;
        state.not_before = None;
    }

    /// Notes that a call failed; it is left out after several in a row if `may_eject`.
    pub(super) fn failed(&self, pushback: Option<Duration>, may_eject: bool) {
        let mut state = self.state();
        let now = Instant::now();
        state.failures = state.failures.saturating_add(1);
        state.not_before = pushback.map(|pushback| now + pushback.min(LONGEST_EJECTION));
        // The calls that were under way when it was left out say nothing new.
        if state.failures >= FAILURES && may_eject && state.ejected_until.is_none_or(|until| until <= now) {
            let time = FIRST_EJECTION.saturating_mul(1 << state.ejections.min(10)).min(LONGEST_EJECTION);
            state.ejections += 1;
            state.ejected_until = Some(now + time);
            let seconds = time.as_secs();
            tracing::warn!(address = %self.place.address, seconds, "a replica fails and is left out");
        }
    }
}

impl State {
    /// After its time one call may probe it.
    fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.is_some_and(|until| now < until || self.is_probed)
    }

    fn is_not_before(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|until| now < until)
    }
}

/// A call in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) endpoint: Arc<Endpoint>,
    /// The replica does not answer any more.
    pub(super) given_up: Shutdown,
    is_probe: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_probe {
            self.endpoint.state().is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Arc<Endpoint> {
        let address = "http://127.0.0.1:1".parse().unwrap();
        Arc::new(Endpoint::new(Place { address, origin: None }, Health::Serving))
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_fails_comes_back_after_a_growing_time_with_one_probe() {
        let endpoint = endpoint();
        for _ in 0..FAILURES - 1 {
            endpoint.failed(None, true);
        }
        assert_eq!(endpoint.fitness(), Fitness::Live);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            endpoint.failed(None, true);
            // Late answers of earlier calls change nothing.
            endpoint.failed(None, true);
            tokio::time::advance(Duration::from_millis(1000 * seconds - 1)).await;
            assert_eq!(endpoint.fitness(), Fitness::Ejected, "{seconds}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(endpoint.fitness(), Fitness::Live, "{seconds}");
            let probe = endpoint.begin();
            assert_eq!(endpoint.fitness(), Fitness::Ejected, "one call probes it");
            drop(probe);
        }
        endpoint.succeeded();
        endpoint.failed(None, true);
        assert_eq!(endpoint.fitness(), Fitness::Live);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_is_not_called_before_the_time_that_it_gives() {
        let endpoint = endpoint();
        endpoint.failed(Some(Duration::from_secs(2)), true);
        assert_eq!(endpoint.fitness(), Fitness::Ejected);
        assert_eq!(endpoint.pushback(), Duration::from_secs(2));
        assert!(!endpoint.is_ejected());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(endpoint.fitness(), Fitness::Live);
    }

    #[tokio::test]
    async fn calls_in_flight_end_when_a_replica_is_given_up_and_later_ones_do_not() {
        let endpoint = endpoint();
        let call = endpoint.begin();
        assert_eq!(endpoint.in_flight(), 1);
        endpoint.give_up();
        assert!(call.given_up.is_cancelled() && !endpoint.begin().given_up.is_cancelled());
        drop(call);
        assert_eq!(endpoint.in_flight(), 0);
    }
}
