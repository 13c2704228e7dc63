//! `--check-health`: a service's own program asks the running service for its health, since an image without a shell has no other
//! program that could.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::settings::{CommonSettings, ServiceSettings};
use crate::tls::{self, ClientTls, ServerTlsSettings};

/// Health is known beforehand and told at once; a service that takes longer has no core or no memory to run on.
const PATIENCE: Duration = Duration::from_secs(4);
const AGAIN: Duration = Duration::from_millis(200);

/// Why a service does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unhealthy {
    /// It answers, and says that it is not serving. Its log has the reason.
    #[error("the service at {address} is not serving: its log says why")]
    NotServing { address: String },
    /// There is no answer.
    #[error("no answer from {address} within {PATIENCE:?}: {source}")]
    NoAnswer { address: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Asks the service that runs with these settings on this host.
pub(crate) async fn run<S: ServiceSettings>(settings: &S) -> Result<(), Unhealthy> {
    let address = within_this_host(&settings.common().server.listen.to_string());
    let deadline = Instant::now() + PATIENCE;
    let asked = loop {
        let asked = timeout_at(deadline, status(&address, settings.common())).await;
        match asked.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            // While certificates are exchanged, the service and this may not have the same ones for a moment.
            Err(_) if settings.common().server.tls.is_on() && Instant::now() + AGAIN < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            asked => break asked,
        }
    };
    let status = asked.map_err(|source| Unhealthy::NoAnswer { address: address.clone(), source })?;
    match status {
        ServingStatus::Serving => Ok(()),
        _ => Err(Unhealthy::NotServing { address }),
    }
}

async fn status(
    address: &str,
    settings: &CommonSettings,
) -> Result<ServingStatus, Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let channel = if settings.server.tls.is_on() {
        let ServerTlsSettings { certificate, private_key, .. } = settings.server.tls.clone();
        let mut shown = settings.client.tls.clone();
        if shown.certificate.as_os_str().is_empty() {
            (shown.certificate, shown.private_key) = (certificate.clone(), private_key);
        }
        let tls = ClientTls::to_itself(&shown, certificate).await?;
        let connector = tls::connector(Some(tls), "localhost".to_owned(), address.to_owned());
        endpoint.connect_with_connector(connector).await?
    } else {
        endpoint.connect().await?
    };
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
    Ok(answer.get_ref().status())
}

/// What to connect to where a service listens on `listen`: every address of the host includes the loopback.
fn within_this_host(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::within_this_host;

    #[test]
    fn every_address_includes_the_loopback() {
        assert_eq!(within_this_host("0.0.0.0:7104"), "127.0.0.1:7104");
        assert_eq!(within_this_host("[::]:7104"), "[::1]:7104");
        assert_eq!(within_this_host("10.0.0.7:7104"), "10.0.0.7:7104");
    }
}
