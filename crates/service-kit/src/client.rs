//! Channels to other services.

use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::listener::Address;
use crate::{Context, Refusal};

/// Metadata by which a service that asks another for its health says that it is one of its callers: until its connection is
/// gone, there may be work to come.
pub(crate) const CALLER: &str = "reverie-caller";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 flow-control windows: a 1024 px picture of raw pixels (3 MiB) must not wait for window updates.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest message between services: eight neighbours' pictures, an initial picture and its mask, 8 MiB each, and what goes with
/// them.
pub const MAX_INTERNAL_MESSAGE: usize = 96 << 20;

/// One service that another one calls: its name for people, and the channel to it.
#[derive(Debug, Clone)]
pub struct Stage {
    name: &'static str,
    channel: Channel,
    address: Address,
}

impl Stage {
    /// Prepares a channel. It connects with the first call and again whenever the connection is lost.
    pub fn new(name: &'static str, address: &Address) -> Self {
        let tuned = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .tcp_nodelay(true)
        };
        let channel = match address {
            Address::Uri(uri) => tuned(Endpoint::from(uri.clone())).connect_lazy(),
            Address::Memory(sender) => {
                let sender = sender.clone();
                let connector = tower::service_fn(move |_: http::Uri| {
                    let sender = sender.clone();
                    async move { Address::connect_memory(&sender).await.map(TokioIo::new) }
                });
                tuned(Endpoint::from_static("http://memory")).connect_with_connector_lazy(connector)
            }
        };
        Self { name, channel, address: address.clone() }
    }

    /// The channel, for a generated client.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks for its health; gives the reason if it is not serving.
    pub async fn check_health(&self, timeout: Duration) -> Result<(), String> {
        let mut request =
            Context::with_timeout(timeout).outgoing(HealthCheckRequest { service: String::new() });
        request.metadata_mut().insert(CALLER, MetadataValue::from_static("1"));
        let mut client = HealthClient::new(self.channel());
        match tokio::time::timeout(timeout, client.check(request)).await {
            Ok(Ok(response)) if response.get_ref().status() == ServingStatus::Serving => Ok(()),
            Ok(Ok(_)) => Err(format!("{} at {} is not serving", self.name, self.address)),
            Ok(Err(status)) => Err(self.explain(&status)),
            Err(_) => Err(format!("{} at {} did not answer within {timeout:?}", self.name, self.address)),
        }
    }

    /// Tells the caller which stage failed and how. What the caller can act on keeps its code and details; a defect of
    /// a stage becomes INTERNAL; a stage out of reach becomes UNAVAILABLE.
    #[expect(clippy::needless_pass_by_value, reason = "fits map_err, and the status is done with")]
    pub fn blame(&self, context: Context, status: Status) -> Status {
        let out_of_time = context.deadline().is_some_and(|deadline| {
            // tonic ends an expired call with CANCELLED; ours pass on 95 % of the time, so the deadline is near by then.
            let left = deadline.saturating_duration_since(Instant::now());
            status.code() == Code::Cancelled && (left.is_zero() || status.message().contains("imeout"))
        });
        match status.code() {
            Code::DeadlineExceeded => {
                Refusal::deadline_exceeded(format!("the deadline passed in stage {}", self.name)).into()
            }
            Code::Cancelled if out_of_time => {
                Refusal::deadline_exceeded(format!("the deadline passed in stage {}", self.name)).into()
            }
            Code::Unavailable => Refusal::unavailable(self.explain(&status)).into(),
            Code::Unknown | Code::Internal | Code::Cancelled | Code::Unimplemented | Code::DataLoss => {
                tracing::error!(stage = self.name, %status, "a stage failed");
                if std::error::Error::source(&status).is_some() || status.code() == Code::Cancelled {
                    // The connection broke under the call: the stage went away.
                    Refusal::unavailable(self.explain(&status)).into()
                } else {
                    Refusal::internal(self.explain(&status)).into()
                }
            }
            code => Status::with_details_and_metadata(
                code,
                format!("{}: {}", self.name, status.message()),
                status.details().to_vec().into(),
                status.metadata().clone(),
            ),
        }
    }

    fn explain(&self, status: &Status) -> String {
        let mut cause: &dyn std::error::Error = status;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let why = if std::ptr::addr_eq(cause, std::ptr::from_ref(status)) {
            status.message().to_owned()
        } else {
            cause.to_string()
        };
        format!("stage {} at {}: {why}", self.name, self.address)
    }
}
