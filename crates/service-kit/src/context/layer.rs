//! The layer that gives every incoming request its [`Context`] and its span.

use std::task::{Poll, ready};

use futures::future::BoxFuture;
use http::HeaderMap;
use opentelemetry::global;
use opentelemetry::propagation::Extractor;
use tonic::Code;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{Instrument as _, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::Context;
use crate::ending::Ending;
use crate::telemetry::calls::{self, Call};

/// Puts the [`Context`] of every request in its extensions and runs it in a span of the caller's trace.
#[derive(Debug, Clone, Copy)]
pub struct ContextLayer {
    service: &'static str,
}

impl ContextLayer {
    /// For the service of this name.
    pub fn new(service: &'static str) -> Self {
        Self { service }
    }
}

impl<S> Layer<S> for ContextLayer {
    type Service = ContextService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ContextService { inner, service: self.service }
    }
}

/// See [`ContextLayer`].
#[derive(Debug, Clone)]
pub struct ContextService<S> {
    inner: S,
    service: &'static str,
}

impl<S, B> Service<http::Request<B>> for ContextService<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(ready!(self.inner.poll_ready(context)))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let context = match Context::of_headers(request.headers()).and_then(Context::in_time) {
            Ok(context) => context,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        request.extensions_mut().insert(context);
        let path = request.uri().path().trim_start_matches('/').to_owned();
        // Probes and reflection come every second; they would drown the requests.
        if path.starts_with("grpc.") {
            return Box::pin(self.inner.call(request));
        }
        let call = Call::of_server(&path);
        let span = tracing::info_span!(
            "grpc.server",
            otel.name = path,
            otel.kind = "server",
            service = self.service,
            rpc.system.name = "grpc",
            rpc.response.status_code = field::Empty,
            otel.status_code = field::Empty,
        );
        let parent = global::get_text_map_propagator(|p| p.extract(&HeaderExtractor(request.headers())));
        // Fails only where no OpenTelemetry layer is installed; then there is no trace to join.
        let _ = span.set_parent(parent);
        let of_call = span.clone();
        let ending = Ending::new(span.clone(), move |code| {
            of_call.record("rpc.response.status_code", calls::name(code));
            if is_servers_fault(code) {
                of_call.record("otel.status_code", "ERROR");
            }
            call.end(code);
        });
        let response = self.inner.call(request);
        Box::pin(async move { Ok(ending.of(response.await?)) }.instrument(span))
    }
}

/// Whether a call that ends with `code` is an error of the server's span (semantic conventions, "gRPC Status").
fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

struct HeaderExtractor<'a>(&'a HeaderMap);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use http_body_util::{BodyExt as _, Full};
    use tonic::Status;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// The codes that spans are given.
    #[derive(Clone, Default)]
    struct Codes(Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Codes {
        fn on_record(
            &self,
            _: &tracing::Id,
            values: &tracing::span::Record<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            values.record(&mut self.clone());
        }
    }

    impl tracing::field::Visit for Codes {
        fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
            match field.name() {
                "rpc.response.status_code" => self.0.lock().unwrap().push(value.to_owned()),
                name => {
                    assert_eq!((name, value), ("otel.status_code", "ERROR"));
                    self.1.fetch_add(1, Ordering::Relaxed);
                }
            }
        }

        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            panic!("{field} is {value:?}, which is no text");
        }
    }

    #[tokio::test]
    async fn a_deadline_of_zero_has_passed() {
        let mut reached = 0;
        let mut told = Vec::new();
        for timeout in ["0n", "0H", "1n", "1H"] {
            let respond = |_: http::Request<()>| {
                reached += 1;
                std::future::ready(Ok::<_, std::convert::Infallible>(Status::ok("").into_http::<Body>()))
            };
            let mut service = ContextLayer::new("test").layer(tower::service_fn(respond));
            let request = http::Request::builder().uri("/reverie.Test/Call").header("grpc-timeout", timeout);
            let response = service.call(request.body(()).unwrap()).await.unwrap();
            let status = Status::from_header_map(response.headers()).unwrap();
            told.push((status.code(), status.message().to_owned()));
        }
        let passed =
            || (Code::DeadlineExceeded, "the caller's deadline passed before the call came".to_owned());
        assert_eq!(told, [passed(), passed(), passed(), (Code::Ok, String::new())]);
        assert_eq!(reached, 1);
    }

    #[tokio::test]
    async fn a_span_sees_the_status_that_a_stream_ends_with() {
        let codes = Codes::default();
        let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(codes.clone()));
        let call = async |response: http::Response<Body>| {
            let mut response = Some(response);
            let respond = move |_: http::Request<()>| {
                std::future::ready(Ok::<_, std::convert::Infallible>(response.take().unwrap()))
            };
            let mut service = ContextLayer::new("test").layer(tower::service_fn(respond));
            let request = http::Request::builder().uri("/reverie.Test/Call").body(()).unwrap();
            service.call(request).await.unwrap()
        };
        let taken = || std::mem::take(&mut *codes.0.lock().unwrap());

        let refused = call(Status::not_found("nothing").into_http()).await;
        assert_eq!(taken(), ["NOT_FOUND"]);
        drop(refused);
        assert!(taken().is_empty(), "once is enough");

        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("13"));
        let data = Full::new(bytes::Bytes::from_static(b"a message"));
        let body = || Body::new(data.clone().with_trailers(std::future::ready(Some(Ok(trailers.clone())))));
        let streamed = call(http::Response::new(body())).await;
        assert!(taken().is_empty(), "it has not ended");
        let whole = streamed.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), "a message");
        assert_eq!(taken(), ["INTERNAL"]);

        drop(call(http::Response::new(body())).await);
        assert_eq!(taken(), ["CANCELLED"], "given up");
        assert_eq!(codes.1.load(Ordering::Relaxed), 1, "only INTERNAL is the server's fault");
    }
}
