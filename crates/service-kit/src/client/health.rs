//! Watching the health of a replica: it is asked once a second, and tells changes at once (grpc.health.v1).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tonic::{Code, Response, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::endpoint::{Endpoint, Health};
use super::endpoints::Endpoints;
use crate::Context;

const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take. A replica that takes longer gets no new calls.
const TIMEOUT: Duration = Duration::from_secs(1);
/// After so many questions in a row without an answer, its calls in flight are given up. A busy machine may miss one or two.
const SILENCES: u32 = 3;

/// Keeps what is known of `endpoint` true, for as long as it is polled.
pub(super) async fn watch(endpoint: Arc<Endpoint>, endpoints: Arc<Endpoints>) {
    let mut changes: Option<Streaming<HealthCheckResponse>> = None;
    let mut silences = 0;
    loop {
        let health = ask(&endpoint).await;
        if health != endpoint.health() {
            tracing::info!(stage = endpoints.name, address = %endpoint.place.address, ?health, "the health of a replica changed");
            endpoint.set_health(health);
        }
        match health {
            Health::Serving => silences = 0,
            Health::NotServing => {
                silences = 0;
                // A replica that drains waits until its callers have left, and they have to stay where there is no other.
                if endpoints.has_other(&endpoint) {
                    changes = None;
                    endpoint.leave();
                }
            }
            Health::Unknown => {
                silences += 1;
                changes = None;
                // Where there is no other, they wait.
                if silences >= SILENCES && endpoints.has_other(&endpoint) {
                    endpoint.give_up();
                }
            }
        }
        if changes.is_none() && health == Health::Serving {
            changes = subscribe(&endpoint).await;
        }
        let wait = if (1..SILENCES).contains(&silences) { INTERVAL / 10 } else { INTERVAL };
        let is_open = tokio::select! {
            () = tokio::time::sleep(wait) => true,
            is_open = changed(&mut changes) => is_open,
        };
        if !is_open {
            changes = None;
            tokio::time::sleep(INTERVAL / 10).await;
        }
    }
}

/// What a replica answers to the question for its health.
pub(super) type Answer = Result<Result<Response<HealthCheckResponse>, Status>, Elapsed>;

async fn ask(endpoint: &Endpoint) -> Health {
    let mut client = HealthClient::new(endpoint.transport());
    let request = Context::probe(TIMEOUT).outgoing(HealthCheckRequest::default());
    of_answer(&tokio::time::timeout(TIMEOUT, client.check(request)).await)
}

pub(super) fn of_answer(answer: &Answer) -> Health {
    match answer {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => Health::Serving,
        Ok(Ok(_)) => Health::NotServing,
        // It does not speak of its health, and answers.
        Ok(Err(status)) if status.code() == Code::Unimplemented => Health::Serving,
        Ok(Err(_)) | Err(_) => Health::Unknown,
    }
}

/// Changes from now on; none where it does not tell.
async fn subscribe(endpoint: &Endpoint) -> Option<Streaming<HealthCheckResponse>> {
    let subscribed = async {
        let mut client = HealthClient::new(endpoint.transport());
        let mut changes = client.watch(HealthCheckRequest::default()).await.ok()?.into_inner();
        // The first is what holds now.
        changes.message().await.ok()??;
        Some(changes)
    };
    tokio::time::timeout(TIMEOUT, subscribed).await.ok().flatten()
}

/// Waits for a change; false if there will be none any more.
async fn changed(changes: &mut Option<Streaming<HealthCheckResponse>>) -> bool {
    match changes {
        Some(changes) => matches!(changes.message().await, Ok(Some(_))),
        None => std::future::pending().await,
    }
}
