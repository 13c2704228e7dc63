//! Structured logs on standard error, and traces to an OpenTelemetry collector.

use std::time::Duration;

use opentelemetry::global;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::settings::SettingsError;

const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The `[telemetry]` table of every service's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// `text` for people, `json` for machines.
    pub log_format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// Where spans are sent by OTLP over gRPC, such as `http://127.0.0.1:4317`; empty for nowhere.
    pub otlp_endpoint: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Keeps telemetry running; [`Telemetry::shutdown`] sends what is still waiting.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs logging and, if there is an endpoint, tracing for this process. Must be called within a tokio runtime.
    pub fn install(service: &'static str, settings: &TelemetrySettings) -> Result<Self, SettingsError> {
        let wrong = |key: &str, error: &dyn std::fmt::Display| {
            SettingsError::value(format!("telemetry.{key}"), error.to_string())
        };
        let filter = EnvFilter::try_new(&settings.log_filter).map_err(|error| wrong("log_filter", &error))?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        // A line that cannot be written is lost: to complain of it, where standard error is full or closed, would be a panic.
        let lines = lines.log_internal_errors(false);
        let lines = match settings.log_format {
            LogFormat::Text => lines.with_target(false).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        global::set_text_map_propagator(TraceContextPropagator::new());
        let traces = if settings.otlp_endpoint.is_empty() {
            None
        } else {
            if !settings.otlp_endpoint.starts_with("http://") {
                return Err(wrong("otlp_endpoint", &"write http://host:port"));
            }
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(&settings.otlp_endpoint)
                .build()
                .map_err(|error| wrong("otlp_endpoint", &error))?;
            let resource = Resource::builder()
                .with_service_name(format!("reverie-{service}"))
                .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                .build();
            Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
        };
        let exported = traces.as_ref().map(|provider| {
            // The exporter speaks gRPC itself: without this filter it would feed itself.
            let ours =
                tracing_subscriber::filter::filter_fn(|metadata| metadata.target().starts_with("reverie"));
            tracing_opentelemetry::layer().with_tracer(provider.tracer("reverie")).with_filter(ours)
        });
        // A second call in one process (tests, the one-process mesh) keeps what is installed.
        let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(exported).try_init();
        Ok(Self { traces })
    }

    /// Sends the spans that are still waiting, for two seconds at most.
    pub fn shutdown(self) {
        if let Some(Err(error)) = self.traces.map(|traces| traces.shutdown_with_timeout(FLUSH_TIMEOUT)) {
            tracing::warn!(%error, "some spans could not be sent");
        }
    }
}
