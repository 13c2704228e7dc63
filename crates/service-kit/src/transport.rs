//! The HTTP/2 server: each connection gets a life of its own, which ends with GOAWAY when it is old or when the server leaves.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use rand::RngExt as _;
use tokio_util::task::TaskTracker;
use tonic::service::RoutesBuilder;
use tower::util::option_layer;

use crate::connections::{Door, Hold};
use crate::context::ContextLayer;
use crate::gate::Gate;
use crate::protocol::ProtocolLayer;
use crate::serve::ServerSettings;
use crate::tls::ServerTls;
use crate::{Listener, Shutdown};

const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Calls of one connection that were given up before the server has looked at them. A caller with many calls that goes away makes as
/// many, also more than may be open at a time, and past the limit the connection ends with the calls of others on it: the 20 of the
/// library are too few. As many as take, with the largest headers, no more memory than the bodies that a connection may have waiting.
const MAX_UNSEEN: usize = (CONNECTION_WINDOW / MAX_HEADER_LIST_BYTES) as usize;
/// Streams of one connection that the server may have closed for errors, over the whole life of the connection. What still comes for calls
/// that were refused is such an error, and no fault of the caller's; without a limit, a peer that sends wrong frames
/// on purpose and reads no answers fills the memory of the server (RUSTSEC-2024-0003).
const MAX_CLOSED: usize = 16 * MAX_UNSEEN;
/// How much earlier or later than its age a connection ends, so that those which began together do not end together.
const JITTER: f64 = 0.1;
/// A caller whose connection was ended for its age has this long to connect again before it counts as gone. It asks for the health
/// of those it calls once a second.
const RETURN: Duration = Duration::from_secs(3);

/// How long connections live.
#[derive(Debug, Clone, Copy)]
struct Ages {
    /// Until GOAWAY.
    age: Duration,
    /// From then until the connection is closed, unless calls are in flight.
    grace: Duration,
}

impl Ages {
    /// None if connections may have any age.
    fn of(settings: &ServerSettings) -> Option<Self> {
        let age = Duration::from_secs(settings.max_connection_age_seconds);
        let grace = Duration::from_secs(settings.max_connection_age_grace_seconds);
        (!age.is_zero()).then_some(Self { age, grace })
    }

    /// Those of one connection.
    fn drawn(self) -> Self {
        let age = self.age.mul_f64(rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER));
        Self { age, ..self }
    }
}

/// Serves connections until the gate's `leaving` is cancelled: then it takes no new ones, tells those that are open to go away, and
/// ends when they are gone. `closing` ends them at once.
///
/// Boxed, so that it is compiled here and not once more in every service.
pub(crate) fn serve(
    service: &'static str,
    routes: RoutesBuilder,
    settings: &ServerSettings,
    listener: Listener,
    tls: Option<ServerTls>,
    gate: Gate,
    closing: Shutdown,
) -> BoxFuture<'static, ()> {
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(settings.max_concurrent_streams)
        .http2_max_pending_accept_reset_streams(Some(
            MAX_UNSEEN.max(settings.max_concurrent_streams as usize),
        ))
        .http2_max_local_error_reset_streams(Some(MAX_CLOSED))
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .accept_http1(settings.web.is_on())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(option_layer(settings.web.layers()))
        .layer(ContextLayer::new(service))
        .layer(ProtocolLayer)
        .layer(gate.clone());
    let routes = routes.routes().prepare();
    let ages = Ages::of(settings);
    let leaving = gate.leaving.clone();
    let mut door = Door::new(listener, tls, settings, gate, closing);
    Box::pin(async move {
        let open = TaskTracker::new();
        loop {
            let next = tokio::select! {
                () = leaving.cancelled() => break,
                next = door.next() => next,
            };
            let Some((connection, hold)) = next else { break };
            // A server of its own, so that each connection is told to go away at its own time.
            let incoming = stream::iter([Ok::<_, Infallible>(connection)]).chain(stream::pending());
            let ages = ages.filter(|_| hold.is_remote).map(Ages::drawn);
            let told = Shutdown::new();
            let served = server.clone().serve_with_incoming_shutdown(
                routes.clone(),
                incoming,
                told.clone().cancelled_owned(),
            );
            let leaving = leaving.clone();
            open.spawn(async move {
                let (served, ()) = tokio::join!(served, attend(hold, ages, told, leaving));
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection failed");
                }
            });
        }
        drop(door);
        open.close();
        open.wait().await;
    })
}

/// Attends a connection until it is gone: cancels `told`, by which it is told to go away, when it is old or the server leaves.
async fn attend(hold: Hold, ages: Option<Ages>, told: Shutdown, leaving: Shutdown) {
    let old = async {
        match ages {
            Some(Ages { age, grace }) => {
                tokio::time::sleep(age).await;
                grace
            }
            None => std::future::pending().await,
        }
    };
    let grace = tokio::select! {
        () = hold.gone.cancelled() => None,
        () = leaving.cancelled() => None,
        grace = old => Some(grace),
    };
    told.cancel();
    let Some(grace) = grace else { return };
    let close = async {
        tokio::time::sleep(grace).await;
        hold.peer.is_idle().await;
        hold.closing.cancel();
        hold.gone.cancelled().await;
    };
    let back = async {
        tokio::select! {
            () = hold.gone.cancelled() => {}
            () = close => {}
        }
        tokio::time::sleep(RETURN).await;
    };
    tokio::select! {
        () = leaving.cancelled() => {}
        () = back => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_the_same_age_do_not_end_together() {
        let ages = Ages { age: Duration::from_mins(5), grace: Duration::from_mins(1) };
        let drawn: Vec<_> = (0..1000).map(|_| ages.drawn().age.as_secs_f64()).collect();
        assert!(drawn.iter().all(|age| (270.0..=330.0).contains(age)), "{drawn:?}");
        // Spread over nearly all of it: 1,000 draws miss an end of 2 s with a chance of 3e-15.
        let (low, high) =
            drawn.iter().fold((f64::MAX, 0.0_f64), |(low, high), age| (low.min(*age), high.max(*age)));
        assert!(low < 272.0 && high > 328.0, "{low} {high}");
    }
}
