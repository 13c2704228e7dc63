//! Health that tells the truth: `grpc.health.v1`, SERVING only while the service can really do its work.

use std::future::Future;
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::HealthReporter;

use crate::Shutdown;

/// Reports the health of one process; cheap to clone. Starts as `NOT_SERVING`.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Health under `names` (full gRPC service names) and under the empty name, and the gRPC service that answers for it.
    pub(crate) async fn new(names: &'static [&'static str]) -> (Self, HealthServer<impl HealthService>) {
        let (reporter, server) = tonic_health::server::health_reporter();
        for name in names {
            reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
        reporter.set_service_status("", ServingStatus::NotServing).await;
        (Self { reporter }, server)
    }

    pub(crate) async fn set(&self, names: &[&str], serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in names.iter().chain(&[""]) {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Asks `check` every `interval` and reports what it says, until `shutdown`. `check` gives the reason if the service
    /// cannot do its work.
    pub(crate) async fn watch<C, F>(
        self,
        names: &[&str],
        interval: Duration,
        shutdown: Shutdown,
        mut check: C,
    ) where
        C: FnMut() -> F,
        F: Future<Output = Result<(), String>>,
    {
        let mut serving = None;
        loop {
            let outcome = check().await;
            if shutdown.is_cancelled() {
                return;
            }
            if serving != Some(outcome.is_ok()) {
                serving = Some(outcome.is_ok());
                self.set(names, outcome.is_ok()).await;
                match &outcome {
                    Ok(()) => tracing::info!("serving"),
                    Err(reason) => tracing::warn!(%reason, "not serving"),
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }
}
