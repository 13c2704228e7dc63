//! What is wrong with a call before a service is asked: a body that is no gRPC, or a message that is no protobuf or too large.
//!
//! All are the caller's doing. Left to itself tonic takes any body for gRPC, answers INTERNAL, which is a defect of ours, to what it
//! cannot decode, and `OUT_OF_RANGE` to what is too large, where gRPC has `RESOURCE_EXHAUSTED`. What a service says of itself has
//! details ([`Refusal`]).

use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt as _};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::Refusal;

/// The content types that are taken (gRPC over HTTP/2, "Requests"); parameters may follow.
const TAKEN: [&str; 2] = ["application/grpc", "application/grpc+proto"];

/// Refuses bodies that are no gRPC, and says `INVALID_ARGUMENT` of what cannot be decoded and `RESOURCE_EXHAUSTED` of what is too
/// large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProtocolLayer;

impl<S> Layer<S> for ProtocolLayer {
    type Service = ProtocolService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ProtocolService { inner }
    }
}

/// See [`ProtocolLayer`].
#[derive(Debug, Clone)]
pub(crate) struct ProtocolService<S> {
    inner: S,
}

impl<S, B> Service<http::Request<B>> for ProtocolService<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if let Err(refusal) = check_content_type(request.headers()) {
            let response = refusal.into_http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            return std::future::ready(Ok(response)).boxed();
        }
        let response = self.inner.call(request);
        async move { response.await.map(blame_caller) }.boxed()
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let sent = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let sent = sent.unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    if TAKEN.iter().any(|taken| essence.eq_ignore_ascii_case(taken)) {
        Ok(())
    } else {
        let taken = TAKEN.join(" or ");
        Err(Refusal::undecodable(format!("the content type must be {taken} (got {sent:?})")))
    }
}

/// A status in the headers came before any answer; one that is INTERNAL or `OUT_OF_RANGE` without details is tonic's, of a request
/// that it cannot decode or does not take.
fn blame_caller(response: http::Response<Body>) -> http::Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let told = status.message();
    let refusal = match status.code() {
        _ if !status.details().is_empty() => return response,
        Code::Internal => Refusal::undecodable(format!("the request cannot be decoded: {told}")),
        Code::OutOfRange => Refusal::too_large(format!("the request is too large: {told}")),
        _ => return response,
    };
    Status::from(refusal).into_http()
}
