//! The measurement of the calls that are made.

use std::error::Error;

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status, TimeoutExpired};
use tower::BoxError;
use tracing::Span;

use crate::causes::causes;
use crate::ending::Ending;
use crate::telemetry::calls::Call;

/// Measures a call of the method at `path`, all its attempts together, to its last message: `rpc.client.call.duration`.
pub(super) async fn measured(
    path: String,
    call: impl Future<Output = Result<Response<Body>, BoxError>>,
) -> Result<Response<Body>, BoxError> {
    let measure = Call::of_client(&path);
    let mut ending = Ending::new(Span::none(), move |code| measure.end(code));
    match call.await {
        Ok(response) => Ok(ending.of(response)),
        Err(error) => {
            ending.tell(code(error.as_ref()));
            Err(error)
        }
    }
}

/// The status that a call without an answer ends with.
fn code(error: &(dyn Error + 'static)) -> Code {
    let known = causes(error).find_map(|cause| match cause.downcast_ref::<Status>() {
        Some(status) => Some(status.code()),
        None => cause.is::<TimeoutExpired>().then_some(Code::DeadlineExceeded),
    });
    known.unwrap_or(Code::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_an_answer_has_the_status_of_its_cause() {
        assert_eq!(code(&Status::unavailable("no replica")), Code::Unavailable);
        assert_eq!(code(&TimeoutExpired(())), Code::DeadlineExceeded);
        assert_eq!(code(&std::io::Error::other("connection refused")), Code::Unavailable);
    }
}
