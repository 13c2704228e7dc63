//! Channels to other services.

mod addresses;
mod balance;
pub mod credential;
mod endpoint;
mod endpoints;
mod health;
mod measured;
mod metrics;
mod retry;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::causes::causes;
use crate::{Context, Refusal, refusal};

pub use addresses::Addresses;
pub use balance::Channel;

/// Metadata by which a service that asks another for its health says that it is one of its callers: until its connection is
/// gone, there may be work to come.
pub(crate) const CALLER: &str = "reverie-caller";
/// How long after its last replica began to drain a service counts as one that serves, if its address is a name: names are resolved
/// again every second then, and servers of names keep an answer for five.
const SUCCESSION: Duration = Duration::from_secs(8);
/// Largest message between services: what retrieval finds at most, which is eight images of 8 MiB, and 1 MiB for their ids, captions
/// and attributions. (A raw image of the largest size, 4,096 x 4,096 pixels, has 48 MiB.)
pub const MAX_INTERNAL_MESSAGE: usize = (8 * 8 + 1) << 20;

/// One service that another one calls: its name for people, and the channel to its replicas; cheap to clone.
#[derive(Debug, Clone)]
pub struct Upstream {
    name: &'static str,
    channel: Channel,
    addresses: Addresses,
    /// When it last served.
    served: Arc<Mutex<Option<Instant>>>,
}

/// One replica of a service.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its address; none where no replica is known to serve, and any of them may answer.
    pub address: Option<String>,
    /// The channel to it alone.
    pub channel: Channel,
}

impl Upstream {
    /// Prepares a channel to all replicas at `addresses`. It connects with the first call, or, where there may be several replicas, at
    /// once, and again whenever a connection is lost.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(name: &'static str, addresses: impl Into<Addresses>) -> Self {
        let addresses = addresses.into();
        Self { name, channel: Channel::new(name, &addresses), addresses, served: Arc::default() }
    }

    /// The channel, for a generated client. Its calls are measured.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Each replica that is fit for calls: for what may differ between them. At least one.
    pub fn replicas(&self) -> Vec<Replica> {
        self.channel.each().into_iter().map(|(address, channel)| Replica { address, channel }).collect()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks for its health; gives the reason if it is not serving.
    ///
    /// Where its address is a name, it counts as serving for some seconds more: a replica that drains still takes calls, and the name
    /// will soon give the next one.
    pub async fn check_health(&self, timeout: Duration) -> Result<(), String> {
        let mut request =
            Context::with_timeout(timeout).outgoing(HealthCheckRequest { service: String::new() });
        request.metadata_mut().insert(CALLER, MetadataValue::from_static("1"));
        let mut client = HealthClient::new(self.channel());
        let answer = tokio::time::timeout(timeout, client.check(request)).await;
        self.channel.note(&answer);
        match answer {
            Ok(Ok(response)) if response.get_ref().status() == ServingStatus::Serving => {
                *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(())
            }
            Ok(Ok(_)) if self.channel.may_find_others() && self.has_served_within(SUCCESSION) => Ok(()),
            Ok(Ok(_)) => Err(format!("{} at {} is not serving", self.name, self.addresses)),
            Ok(Err(status)) => Err(self.explain(&status)),
            Err(_) => Err(format!("{} at {} did not answer within {timeout:?}", self.name, self.addresses)),
        }
    }

    fn has_served_within(&self, time: Duration) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.is_some_and(|served| served.elapsed() <= time)
    }

    /// Tells the caller which stage failed and how. What the caller can act on keeps its code and details; a defect of
    /// a stage becomes INTERNAL; a stage out of reach becomes UNAVAILABLE.
    #[expect(clippy::needless_pass_by_value, reason = "fits map_err, and the status is done with")]
    pub fn blame(&self, context: Context, status: Status) -> Status {
        match status.code() {
            Code::DeadlineExceeded => context.out_of_time(format!("in stage {}", self.name)),
            Code::Cancelled if is_timeout(&status) => context.out_of_time(format!("in stage {}", self.name)),
            Code::Unavailable => self.unavailable(self.explain(&status)),
            // The stage was restarted with another model a moment ago.
            Code::FailedPrecondition if refusal::is_model_changed(&status) => {
                let why = format!("{}: try again", self.explain(&status));
                Refusal::unavailable(why).of_upstream(self.name).for_other_models().into()
            }
            Code::Unknown | Code::Internal | Code::Cancelled | Code::Unimplemented | Code::DataLoss => {
                tracing::error!(stage = self.name, %status, "a stage failed");
                let is_cut_off = std::error::Error::source(&status).is_some()
                    || matches!(status.code(), Code::Unknown | Code::Cancelled);
                if is_cut_off {
                    // The connection broke under the call, or the call ended without a status: the stage went away.
                    self.unavailable(self.explain(&status))
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

    fn unavailable(&self, message: String) -> Status {
        Refusal::unavailable(message).of_upstream(self.name).into()
    }

    fn explain(&self, status: &Status) -> String {
        let deepest = causes(status).skip(1).last();
        let why = deepest.map_or_else(|| status.message().to_owned(), ToString::to_string);
        format!("stage {} at {}: {why}", self.name, self.addresses)
    }
}

/// Whether a call was ended by its own timeout: by the timer of its channel, or by that of the server, which is all that ends a
/// call with CANCELLED over a connection that is whole.
fn is_timeout(status: &Status) -> bool {
    std::error::Error::source(status).is_none() || balance::is_time_up(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::TimeoutExpired;

    use crate::Address;

    #[tokio::test]
    async fn a_stage_is_blamed_by_what_ended_the_call_and_not_by_its_words() {
        let stage = Upstream::new("denoiser", "http://127.0.0.1:1".parse::<Address>().unwrap());
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
        assert!(refusal::is_for_other_models(&changed));
    }
}
