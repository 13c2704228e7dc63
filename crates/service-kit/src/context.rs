//! What travels with a request from service to service: its deadline and its W3C trace context, both in metadata.

use std::future::Future;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::HeaderMap;
use opentelemetry::global;
use opentelemetry::propagation::{Extractor, Injector};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::Refusal;

/// Share of the remaining time that is passed on, so that a stage gives up before its caller does.
const PASSED_ON: f64 = 0.95;
/// gRPC writes at most eight digits of a timeout; ours are in milliseconds.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(99_999_999);
/// A unary answer leaves this long before the deadline, or tonic's own timer would answer CANCELLED instead.
const ANSWER_BEFORE: Duration = Duration::from_millis(10);

/// The deadline of the request in hand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    deadline: Option<Instant>,
}

impl Context {
    /// A context that ends `timeout` from now.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(timeout) }
    }

    /// The context of an incoming request.
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }

    /// When the caller stops waiting; `None` if it never does.
    pub fn deadline(self) -> Option<Instant> {
        self.deadline
    }

    /// The same context, ended after `limit` at the latest.
    #[must_use]
    pub fn capped(self, limit: Duration) -> Self {
        let cap = Instant::now().checked_add(limit);
        Self { deadline: self.deadline.into_iter().chain(cap).min() }
    }

    /// A request to another service that carries the deadline and the current trace context.
    pub fn outgoing<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            let remaining = deadline.saturating_duration_since(Instant::now()).mul_f64(PASSED_ON);
            request.set_timeout(remaining.min(LONGEST_TIMEOUT));
        }
        let context = Span::current().context();
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut MetadataInjector(request.metadata_mut()));
        });
        request
    }

    /// Waits for `work` until the deadline.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` naming `what` if the deadline comes first; else what `work` gives.
    pub async fn within<T>(
        self,
        what: &str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let Some(deadline) = self.deadline else { return work.await };
        let deadline = deadline.checked_sub(ANSWER_BEFORE).unwrap_or(deadline);
        match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(result) => result,
            Err(_) => Err(Refusal::deadline_exceeded(format!("the deadline passed during {what}")).into()),
        }
    }
}

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

impl<S, B, R> Service<http::Request<B>> for ContextService<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(ready!(self.inner.poll_ready(context)))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let deadline =
            request.headers().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
        request.extensions_mut().insert(deadline.map(Context::with_timeout).unwrap_or_default());
        let path = request.uri().path().trim_start_matches('/').to_owned();
        // Probes and reflection come every second; they would drown the requests.
        if path.starts_with("grpc.") {
            return Box::pin(self.inner.call(request));
        }
        let span = tracing::info_span!(
            "grpc.server",
            otel.name = path,
            otel.kind = "server",
            service = self.service,
            rpc.system = "grpc",
            rpc.grpc.status_code = field::Empty,
        );
        let parent = global::get_text_map_propagator(|p| p.extract(&HeaderExtractor(request.headers())));
        // Fails only where no OpenTelemetry layer is installed; then there is no trace to join.
        let _ = span.set_parent(parent);
        let response = self.inner.call(request);
        Box::pin(
            async move {
                let response = response.await?;
                if let Some(code) = response.headers().get("grpc-status").and_then(|code| code.to_str().ok())
                {
                    Span::current().record("rpc.grpc.status_code", code);
                }
                Ok(response)
            }
            .instrument(span),
        )
    }
}

/// Reads the value of a `grpc-timeout` header: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
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

struct MetadataInjector<'a>(&'a mut MetadataMap);

impl Injector for MetadataInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        use tonic::metadata::{MetadataKey, MetadataValue};
        if let (Ok(key), Ok(value)) =
            (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value))
        {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_writes_them() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("99999999m"), Some(LONGEST_TIMEOUT));
        assert_eq!(parse_timeout("250u"), Some(Duration::from_micros(250)));
        for wrong in ["", "S", "5", "5s", "-5S", "123456789S", "5é"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn less_than_the_remaining_time_is_passed_on() {
        let request = Context::with_timeout(Duration::from_secs(100)).outgoing(());
        let header = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
        let passed_on = parse_timeout(&header).unwrap();
        assert!(passed_on <= Duration::from_secs(95) && passed_on > Duration::from_secs(90), "{passed_on:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_past_the_deadline_is_given_up() {
        let context = Context::with_timeout(Duration::from_secs(1));
        let status =
            context.within("a long sleep", std::future::pending::<Result<(), Status>>()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(status.message().contains("a long sleep"));
    }
}
