//! Serving and draining.

use std::error::Error as StdError;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Deserialize;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::service::RoutesBuilder;
use tonic::transport::server::TcpIncoming;

use crate::context::ContextLayer;
use crate::protocol::ProtocolLayer;
use crate::{Health, Listener, Shutdown};

const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The gRPC services of every process.
const EVERYWHERE: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];
/// How often a service looks whether it can still do its work.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// The `[server]` table of every service's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Streams that one connection may have open.
    pub max_concurrent_streams: u32,
    /// Seconds that calls in flight get to finish after a shutdown was asked for.
    pub drain_seconds: u64,
}

/// Why a service could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something it needs is missing or broken: settings, models, knowledge bases.
    #[error("{what}: {source}")]
    Prepare {
        /// What was being prepared.
        what: String,
        /// Why it failed.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The server failed.
    #[error("serving failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl RunError {
    /// Wraps what went wrong while preparing `what`.
    pub fn prepare<E>(what: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let what = what.into();
        move |source| Self::Prepare { what, source: source.into() }
    }
}

/// A gRPC server with health and reflection, ready to take a service's routes.
pub struct Server {
    service: &'static str,
    names: &'static [&'static str],
    routes: RoutesBuilder,
    health: Health,
    /// Server, health and its watchers stop taking work with this; calls in flight go on.
    draining: Shutdown,
    settings: ServerSettings,
}

impl Server {
    /// A server of the service `service` that will answer for the gRPC services `names`.
    pub async fn new(
        service: &'static str,
        names: &'static [&'static str],
        settings: &ServerSettings,
    ) -> Self {
        let draining = Shutdown::new();
        let (health, health_server) = Health::new(names, draining.clone()).await;
        let mut routes = Routes::builder();
        routes.add_service(health_server);
        // The contracts of all services are compiled in; this process serves some of them.
        let descriptors = || {
            let all = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(reverie_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            let served = names.iter().chain(&EVERYWHERE);
            served.fold(all, |builder, name| builder.with_service_name(*name))
        };
        // Older clients speak v1alpha only.
        match (descriptors().build_v1(), descriptors().build_v1alpha()) {
            (Ok(v1), Ok(v1alpha)) => {
                routes.add_service(v1).add_service(v1alpha);
            }
            // The descriptors are compiled in, so this cannot happen in a build that passed its tests.
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "no reflection: the compiled descriptors cannot be read");
            }
        }
        Self { service, names, routes, health, draining, settings: settings.clone() }
    }

    /// Where the service's own gRPC services are added.
    pub fn routes(&mut self) -> &mut RoutesBuilder {
        &mut self.routes
    }

    /// Serves until `shutdown`, then drains: `NOT_SERVING` first, no new connections, calls in flight finish or are cut off
    /// when the drain time is over. Once a second `check` tells whether the service can do its work, or why not.
    pub async fn serve<C, F>(self, listener: Listener, shutdown: Shutdown, check: C) -> Result<(), RunError>
    where
        C: FnMut() -> F + Send,
        F: Future<Output = Result<(), String>> + Send,
    {
        let Self { service, names, routes, health, draining, settings } = self;
        tracing::info!(service, address = listener.describe(), "listening");
        let serving = transport(service, routes, &settings, listener, draining.clone());
        let drain = async {
            shutdown.cancelled().await;
            health.set(names, false).await;
            tracing::info!(service, seconds = settings.drain_seconds, "draining");
            draining.cancel();
            tokio::time::sleep(Duration::from_secs(settings.drain_seconds)).await;
        };
        let watch = async {
            health.clone().watch(names, HEALTH_INTERVAL, draining.clone(), check).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = serving => result.map_err(RunError::from),
            () = drain => {
                tracing::warn!(service, "the drain time is over; calls in flight are cut off");
                Ok(())
            }
            () = watch => Ok(()),
        }
    }
}

/// The HTTP/2 server; it ends when `draining` is cancelled and the calls in flight are done.
///
/// Boxed, so that it is compiled here and not once more in every service.
fn transport(
    service: &'static str,
    routes: RoutesBuilder,
    settings: &ServerSettings,
    listener: Listener,
    draining: Shutdown,
) -> BoxFuture<'static, Result<(), tonic::transport::Error>> {
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(settings.max_concurrent_streams)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(ContextLayer::new(service))
        .layer(ProtocolLayer);
    let signal = draining.cancelled_owned();
    let routes = routes.routes().prepare();
    Box::pin(async move {
        match listener {
            Listener::Tcp(listener) => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                server.serve_with_incoming_shutdown(routes, incoming, signal).await
            }
            Listener::Memory(receiver) => {
                let incoming = ReceiverStream::new(receiver).map(Ok::<_, std::io::Error>);
                server.serve_with_incoming_shutdown(routes, incoming, signal).await
            }
        }
    })
}
