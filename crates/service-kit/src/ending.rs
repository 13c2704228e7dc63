//! With which status a call ends: the one in the headers of an answer that is nothing else, or in the trailers of any other.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Span;

/// A call whose end is awaited by `told`, which is called once. Dropped before its end, the call was given up: CANCELLED.
pub(crate) struct Ending<F: FnOnce(Code)> {
    told: Option<F>,
    span: Span,
}

impl<F: FnOnce(Code) + Send + Unpin + 'static> Ending<F> {
    /// What the body of the answer does belongs to `span`.
    pub(crate) fn new(span: Span, told: F) -> Self {
        Self { told: Some(told), span }
    }

    /// Follows the answer to its end.
    pub(crate) fn of(mut self, response: http::Response<Body>) -> http::Response<Body> {
        self.note(response.headers());
        if self.told.is_none() {
            return response;
        }
        response.map(|body| Body::new(Followed { body, ending: self }))
    }

    /// It ended with `code`.
    pub(crate) fn tell(&mut self, code: Code) {
        if let Some(told) = self.told.take() {
            told(code);
        }
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.tell(Code::from_bytes(code.as_bytes()));
        }
    }
}

impl<F: FnOnce(Code)> Drop for Ending<F> {
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            told(Code::Cancelled);
        }
    }
}

/// A body that is followed to its trailers.
struct Followed<F: FnOnce(Code)> {
    body: Body,
    ending: Ending<F>,
}

impl<F: FnOnce(Code) + Send + Unpin + 'static> http_body::Body for Followed<F> {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let span = self.ending.span.clone();
        let _within = span.enter();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.ending.note(trailers);
                }
            }
            Some(Err(status)) => self.ending.tell(status.code()),
            // gRPC ends with trailers: the other side broke off.
            None => self.ending.tell(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
