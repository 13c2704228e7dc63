//! Health that tells the truth: `grpc.health.v1`, SERVING only while the service can really do its work.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_check_response::ServingStatus::NotServing as NOT_SERVING;
use tonic_health::pb::health_server::{Health as HealthContract, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::{Shutdown, readiness};

/// Why a service cannot do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It may be able to again, such as when a stage that it calls comes back.
    ForNow(String),
    /// It has to be started anew.
    ForGood(String),
}

impl Unfit {
    fn reason(&self) -> &str {
        match self {
            Self::ForNow(reason) | Self::ForGood(reason) => reason,
        }
    }
}

/// Reports the health of one process; cheap to clone. Starts as `NOT_SERVING`.
#[derive(Debug, Clone)]
pub struct Health {
    service: &'static str,
    reporter: HealthReporter,
}

impl Health {
    /// Health under `names` (full gRPC service names) and under the empty name, and the gRPC service that answers for it.
    /// Watches end when `draining` is cancelled.
    pub(crate) async fn new(
        service: &'static str,
        names: &'static [&'static str],
        draining: Shutdown,
    ) -> (Self, HealthServer<impl HealthContract>) {
        let reporter = HealthReporter::new();
        for name in names {
            reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
        reporter.set_service_status("", ServingStatus::NotServing).await;
        let statuses = HealthService::from_health_reporter(reporter.clone());
        (Self { service, reporter }, HealthServer::new(UntilDraining { statuses, draining }))
    }

    /// Reports that the service serves, or why it does not.
    pub(crate) async fn set(&self, names: &[&str], state: Result<(), &str>) {
        let serving = state.is_ok();
        readiness::set(self.service, state.map_err(str::to_owned));
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in names.iter().chain(&[""]) {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Asks `check` every `interval` and reports what it says, until `shutdown` or until it says that the service cannot go on,
    /// whose reason is given back.
    pub(crate) async fn watch<C, F>(
        self,
        names: &[&str],
        interval: Duration,
        shutdown: Shutdown,
        mut check: C,
    ) -> Option<String>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<(), Unfit>>,
    {
        let mut last: Option<Result<(), Unfit>> = None;
        let mut has_served = false;
        loop {
            let outcome = check().await;
            if shutdown.is_cancelled() {
                return None;
            }
            if let Err(Unfit::ForGood(reason)) = outcome {
                return Some(reason);
            }
            // The first reason is often that a stage is starting; the one that stays may be another.
            if last.as_ref() != Some(&outcome) {
                self.set(names, outcome.as_ref().map(|&()| ()).map_err(Unfit::reason)).await;
                match &outcome {
                    Ok(()) => tracing::info!("serving"),
                    Err(unfit) if !has_served => {
                        tracing::info!(reason = unfit.reason(), "not serving yet");
                    }
                    Err(unfit) => tracing::warn!(reason = unfit.reason(), "not serving"),
                }
                has_served |= outcome.is_ok();
                last = Some(outcome);
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }
}

/// Health whose watches end with `NOT_SERVING` once the service drains: an open watch would hold up the drain.
struct UntilDraining {
    statuses: HealthService,
    draining: Shutdown,
}

#[tonic::async_trait]
impl HealthContract for UntilDraining {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.statuses.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let changes = self.statuses.watch(request).await?.into_inner();
        let changes = changes.take_until(self.draining.clone().cancelled_owned());
        let last = async { Ok(HealthCheckResponse { status: NOT_SERVING.into() }) };
        Ok(Response::new(changes.chain(futures::stream::once(last)).boxed()))
    }
}
