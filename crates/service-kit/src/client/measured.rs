//! A channel whose calls are measured.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::Span;

use crate::ending::Ending;
use crate::telemetry::calls::Call;

/// Measures the calls that go through it, to their last message: `rpc.client.call.duration`.
#[derive(Debug, Clone)]
pub struct Measured<S>(pub(super) S);

impl<S> Service<http::Request<Body>> for Measured<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Error: std::error::Error + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path().trim_start_matches('/');
        // Health checks come every second.
        if path.starts_with("grpc.") {
            return Box::pin(self.0.call(request));
        }
        let call = Call::of_client(path);
        let mut ending = Ending::new(Span::none(), move |code| call.end(code));
        let response = self.0.call(request);
        Box::pin(async move {
            match response.await {
                Ok(response) => Ok(ending.of(response)),
                Err(error) => {
                    ending.tell(code(&error));
                    Err(error)
                }
            }
        })
    }
}

/// The status that a call without an answer ends with.
fn code(error: &(dyn std::error::Error + 'static)) -> Code {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<tonic::TimeoutExpired>() {
            return Code::DeadlineExceeded;
        }
        if let Some(status) = error.downcast_ref::<Status>() {
            return status.code();
        }
        cause = error.source();
    }
    Code::Unavailable
}
