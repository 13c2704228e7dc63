//! Waiting for a service to be well, or to be ill, without asking again and again.

use std::time::Duration;

use reverie_service_kit::Address;
use reverie_service_kit::client::Upstream;
use tonic_health::ServingStatus as Wanted;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::Fallible;

/// How long a change may take on a busy machine: models are loaded meanwhile.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until the process at `address` reports `wanted`: it sends each change itself.
pub async fn becomes(address: &Address, wanted: Wanted) -> Fallible<()> {
    let wanted = match wanted {
        Wanted::Unknown => ServingStatus::Unknown,
        Wanted::Serving => ServingStatus::Serving,
        Wanted::NotServing => ServingStatus::NotServing,
    };
    let watched = async {
        let mut client = HealthClient::new(Upstream::new("service", address).channel());
        let mut changes = client.watch(HealthCheckRequest::default()).await?.into_inner();
        while let Some(change) = changes.message().await? {
            if change.status() == wanted {
                return Ok(());
            }
        }
        Err("it ended".into())
    };
    match tokio::time::timeout(PATIENCE, watched).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{address} did not become {wanted:?} within {PATIENCE:?}").into()),
    }
}
