//! Channels to other services.

mod measured;

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::metadata::MetadataValue;
use tonic::transport::{self, Endpoint};
use tonic::{Code, Status, TimeoutExpired};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

pub use self::measured::Measured;
use crate::listener::Address;
use crate::{Context, Refusal, refusal};

/// Metadata by which a service that asks another for its health says that it is one of its callers: until its connection is
/// gone, there may be work to come.
pub(crate) const CALLER: &str = "reverie-caller";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 flow-control windows: a 1024 px picture of raw pixels (3 MiB) must not wait for window updates.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest message between services: what retrieval finds at most, which is eight images of 8 MiB, and 1 MiB for their ids, captions
/// and attributions. (A raw image of the largest size, 4,096 x 4,096 pixels, has 48 MiB.)
pub const MAX_INTERNAL_MESSAGE: usize = (8 * 8 + 1) << 20;

/// The channel of a [`Stage`].
pub type Channel = Measured<transport::Channel>;

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
        Self { name, channel: Measured(channel), address: address.clone() }
    }

    /// The channel, for a generated client. Its calls are measured.
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
        match status.code() {
            Code::DeadlineExceeded => context.out_of_time(format!("in stage {}", self.name)),
            Code::Cancelled if is_timeout(&status) => context.out_of_time(format!("in stage {}", self.name)),
            Code::Unavailable => Refusal::unavailable(self.explain(&status)).into(),
            // The stage was restarted with another model a moment ago.
            Code::FailedPrecondition if refusal::is_model_changed(&status) => {
                Refusal::unavailable(format!("{}: try again", self.explain(&status))).into()
            }
            Code::Unknown | Code::Internal | Code::Cancelled | Code::Unimplemented | Code::DataLoss => {
                tracing::error!(stage = self.name, %status, "a stage failed");
                let is_cut_off = std::error::Error::source(&status).is_some()
                    || matches!(status.code(), Code::Unknown | Code::Cancelled);
                if is_cut_off {
                    // The connection broke under the call, or the call ended without a status: the stage went away.
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

    /// The same for a call whose fields come from the caller's own: `own` gives the caller's name of a field of the call, or
    /// none if the caller has no such field.
    pub fn blame_fields(
        &self,
        context: Context,
        status: Status,
        own: impl Fn(&str) -> Option<String>,
    ) -> Status {
        match status.code() {
            Code::InvalidArgument => refusal::of_own_fields(self.name, &status, own),
            _ => self.blame(context, status),
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

/// Whether a call was ended by its own timeout: by the timer of its channel, or by that of the server, which is all that ends a
/// call with CANCELLED over a connection that is whole.
fn is_timeout(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    let is_answer = cause.is_none();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    is_answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_stage_is_blamed_by_what_ended_the_call_and_not_by_its_words() {
        let stage = Stage::new("denoiser", &"http://127.0.0.1:1".parse().unwrap());
        let context = Context::with_timeout(Duration::from_secs(100));
        let blamed = |status: Status| stage.blame(context, status).code();
        let caused = |code, message: &str, source: Arc<dyn std::error::Error + Send + Sync>| {
            let mut status = Status::new(code, message);
            status.set_source(source);
            status
        };
        // The server's timer, in whatever words.
        assert_eq!(blamed(Status::cancelled("Timeout expired")), Code::DeadlineExceeded);
        assert_eq!(blamed(Status::cancelled("time is up")), Code::DeadlineExceeded);
        let timer = Arc::new(TimeoutExpired(()));
        assert_eq!(blamed(caused(Code::Cancelled, "cancelled", timer)), Code::DeadlineExceeded);
        // A connection that broke, in whatever words.
        let broken = || Arc::new(std::io::Error::other("Timeout of a proxy"));
        assert_eq!(blamed(caused(Code::Cancelled, "timeout", broken())), Code::Unavailable);
        assert_eq!(blamed(caused(Code::Internal, "h2", broken())), Code::Unavailable);
        assert_eq!(blamed(Status::unknown("no status came")), Code::Unavailable);
        assert_eq!(blamed(Refusal::internal("a defect").into()), Code::Internal);
        assert_eq!(blamed(Refusal::mismatch("another bundle").into()), Code::FailedPrecondition);
        let changed = stage.blame(context, Refusal::model_changed("it is another").into());
        assert_eq!(changed.code(), Code::Unavailable);
        assert!(tonic_types::StatusExt::get_details_retry_info(&changed).is_some());
    }
}
