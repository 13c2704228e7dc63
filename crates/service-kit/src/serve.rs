//! Serving and draining.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::service::RoutesBuilder;

use crate::doorkeeper::Doorkeeper;
use crate::gate::{Gate, InFlight};
use crate::health::Unfit;
use crate::settings::SettingsError;
use crate::telemetry::calls;
use crate::tls::{Callers, ServerTls, ServerTlsSettings};
use crate::web::WebSettings;
use crate::{Health, ListenAddress, Listener, Shutdown, process, transport};

/// The gRPC services of every process.
const EVERYWHERE: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];
/// How often a service looks whether it can still do its work.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time that a setting may give, seconds: a day.
const MAX_SECONDS: u64 = 24 * 60 * 60;
/// The part of the drain time in which a stage waits for its callers to leave. The calls of those who stay get the rest.
const CALLERS_SHARE: f64 = 0.75;
/// What connections get for their last bytes when nobody waits for them any more.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// The `[server]` table of every service's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Where to listen.
    pub listen: ListenAddress,
    /// Connections open at a time; further ones are closed at once.
    pub max_connections: usize,
    /// Streams that one connection may have open.
    pub max_concurrent_streams: u32,
    /// Seconds that a new connection has to say that it speaks HTTP/2.
    pub handshake_seconds: u64,
    /// Seconds that the message of a request has to arrive.
    pub receive_seconds: u64,
    /// Seconds for which an answer waits for its caller to read on.
    pub send_seconds: u64,
    /// MiB that the messages of the requests in flight may take together.
    pub max_buffered_mib: usize,
    /// Seconds after which a connection is told to go away, give or take a tenth; 0 for never.
    pub max_connection_age_seconds: u64,
    /// Seconds after that until such a connection is closed, or longer while calls are in flight on it.
    pub max_connection_age_grace_seconds: u64,
    /// Seconds that calls are still taken after a shutdown was asked for, while callers hear of it.
    pub lame_duck_seconds: u64,
    /// Seconds that calls in flight, and those that callers still have to make, get after that.
    pub drain_seconds: u64,
    /// TLS.
    pub tls: ServerTlsSettings,
    /// Calls of pages in browsers.
    pub web: WebSettings,
}

impl ServerSettings {
    /// Refuses limits of 0, which would let nothing through, and times of more than a day.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let limits = [
            ("max_connections", self.max_connections as u64),
            ("max_concurrent_streams", u64::from(self.max_concurrent_streams)),
            ("handshake_seconds", self.handshake_seconds),
            ("receive_seconds", self.receive_seconds),
            ("send_seconds", self.send_seconds),
            ("max_buffered_mib", self.max_buffered_mib as u64),
        ];
        if let Some((key, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return Err(SettingsError::value(format!("server.{key}"), "must be at least 1 (got 0)"));
        }
        let times = [
            ("handshake_seconds", self.handshake_seconds),
            ("receive_seconds", self.receive_seconds),
            ("send_seconds", self.send_seconds),
            ("max_connection_age_seconds", self.max_connection_age_seconds),
            ("max_connection_age_grace_seconds", self.max_connection_age_grace_seconds),
            ("lame_duck_seconds", self.lame_duck_seconds),
            ("drain_seconds", self.drain_seconds),
        ];
        self.tls.validate()?;
        self.web.validate()?;
        match times.iter().find(|(_, seconds)| *seconds > MAX_SECONDS) {
            Some((key, seconds)) => {
                let why = format!("must be at most {MAX_SECONDS}, which is a day (got {seconds})");
                Err(SettingsError::value(format!("server.{key}"), why))
            }
            None => Ok(()),
        }
    }
}

/// Where a service stands in the mesh, which is who has to be gone before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The public door: after its lame-duck time it takes nothing new, and finishes the calls in flight.
    Door,
    /// A service that others call: it also takes new calls until those who called it are gone, since the work that they have
    /// in flight may need it. A caller that knows another replica leaves at once.
    Stage,
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
        address: ListenAddress,
        /// Why not.
        source: std::io::Error,
    },
    /// It cannot do its work any more, and has to be started anew.
    #[error("{0}; start the service anew")]
    Unfit(String),
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
    standing: Standing,
    routes: RoutesBuilder,
    health: Health,
    /// Watches of the health end with this.
    draining: Shutdown,
    gate: Gate,
    settings: ServerSettings,
}

impl Server {
    /// A server of the service `service` that will answer for the gRPC services `names`, `limit` calls of theirs at a time.
    pub async fn new(
        service: &'static str,
        names: &'static [&'static str],
        standing: Standing,
        settings: &ServerSettings,
        limit: usize,
    ) -> Self {
        let draining = Shutdown::new();
        let (health, health_server) = Health::new(service, names, draining.clone()).await;
        let mut routes = Routes::builder();
        routes.add_service(health_server);
        // The contracts of all services are compiled in; this process serves some of them.
        let descriptors = || {
            let all = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(reverie_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // Each version lists the other, so it has to describe it.
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
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
        let max_bytes = settings.max_buffered_mib.saturating_mul(1 << 20);
        let receive = Duration::from_secs(settings.receive_seconds);
        let send = Duration::from_secs(settings.send_seconds);
        let gate = Gate::new(limit, max_bytes, receive, send, Callers::new(&settings.tls));
        calls::observe(service, limit, gate.places_taken());
        Self { service, names, standing, routes, health, draining, gate, settings: settings.clone() }
    }

    /// The same server, whose calls from other processes `keeper` lets in.
    #[must_use]
    pub fn kept_by(self, keeper: Arc<dyn Doorkeeper>) -> Self {
        Self { gate: self.gate.kept_by(keeper), ..self }
    }

    /// Where the service's own gRPC services are added.
    pub fn routes(&mut self) -> &mut RoutesBuilder {
        &mut self.routes
    }

    /// Serves until `shutdown`, then drains ([decision 16](../../../docs/decisions/0016-drain-in-four-phases.md)). Once a second
    /// `check` tells whether the service can do its work, or why not; one that cannot go on drains too, and gives an error.
    pub async fn serve<C, F>(self, listener: Listener, shutdown: Shutdown, check: C) -> Result<(), RunError>
    where
        C: FnMut() -> F + Send,
        F: Future<Output = Result<(), Unfit>> + Send,
    {
        let Self { service, names, standing, routes, health, draining, gate, settings } = self;
        let tls = ServerTls::start(&settings.tls, settings.web.is_on())
            .await
            .map_err(RunError::prepare("server.tls"))?;
        if listener.is_reached_from_other_hosts() {
            let address = listener.describe();
            if tls.is_none() {
                tracing::warn!(
                    service,
                    address,
                    "whoever reaches it can read along: set server.tls.certificate"
                );
            }
            if settings.tls.client_authorities.as_os_str().is_empty() && !gate.is_kept() {
                let how = match standing {
                    Standing::Door => "access.keys or access.tokens.jwks",
                    Standing::Stage => "server.tls.client_authorities",
                };
                tracing::warn!(service, address, "whoever reaches it can call it: set {how}");
            }
        }
        if settings.web.is_on() && !gate.is_kept() {
            let origins = settings.web.origins.join(", ");
            tracing::warn!(
                service,
                origins,
                "every page of these origins can call it: set access.keys or access.tokens.jwks"
            );
        }
        process::has_begun_to_serve();
        tracing::info!(service, address = listener.describe(), "listening");
        let closing = Shutdown::new();
        // Connections run in tasks of their own: none is left behind, however this ends.
        let _closes = closing.clone().drop_guard();
        let serving =
            transport::serve(service, routes, &settings, listener, tls, gate.clone(), closing.clone());
        // It goes on while this waits for something else.
        let mut serving = AbortOnDropHandle::new(tokio::spawn(serving));
        let watch = async {
            let watch = health.clone().watch(names, HEALTH_INTERVAL, draining.clone(), check);
            match watch.await {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        };
        let unfit = tokio::select! {
            _ = &mut serving => return Ok(()),
            () = shutdown.cancelled() => None,
            reason = watch => Some(reason),
        };
        // 1. Whoever watches hears of it, and finds another replica.
        health.set(names, Err(unfit.as_deref().unwrap_or("draining"))).await;
        draining.cancel();
        match &unfit {
            // No time heals what is broken.
            Some(reason) => tracing::error!(service, reason, "the service cannot go on; it drains and ends"),
            // 2. Those who have not heard of it yet are served.
            None => tokio::time::sleep(Duration::from_secs(settings.lame_duck_seconds)).await,
        }

        let drain = Duration::from_secs(settings.drain_seconds);
        let begun = Instant::now();
        let InFlight { calls, callers } = gate.in_flight();
        tracing::info!(service, calls, callers, seconds = settings.drain_seconds, "draining");
        // 3. A stage serves those who may have images in flight until they are gone.
        if standing == Standing::Stage && unfit.is_none() {
            let gone = gate.wait_for(|in_flight| in_flight == InFlight::default());
            if timeout_at(begun + drain.mul_f64(CALLERS_SHARE), gone).await.is_err() {
                let InFlight { calls, callers } = gate.in_flight();
                tracing::info!(
                    service,
                    calls,
                    callers,
                    "callers stay; their connections are told to go away"
                );
            }
        }
        // 4. GOAWAY: calls in flight finish.
        gate.leaving.cancel();
        let deadline = begun + drain;
        if timeout_at(deadline, gate.wait_for(|in_flight| in_flight.calls == 0)).await.is_err() {
            let calls = gate.in_flight().calls;
            tracing::warn!(service, calls, "the drain time is over; calls in flight are cut off");
            gate.cut_off.cancel();
        }
        // Connections send what they still hold, and end. One that never made a call is not waited for.
        let last_bytes = async {
            if timeout_at(deadline, gate.wait_for(|in_flight| in_flight.callers == 0)).await.is_err() {
                tracing::debug!(service, "a caller's connection does not end");
            }
            tokio::time::sleep(LAST_BYTES).await;
        };
        tokio::select! {
            _ = serving => {}
            () = last_bytes => {}
        }
        match unfit {
            Some(reason) => Err(RunError::Unfit(reason)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
