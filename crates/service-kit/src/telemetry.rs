//! Structured logs on standard error; traces and metrics to an OpenTelemetry collector, metrics also to Prometheus.

pub(crate) mod calls;
mod export;
pub mod gen_ai;
mod lines;
pub mod metrics;

use std::io::IsTerminal as _;
use std::thread;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue, global};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SdkTracerProvider};
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use self::export::{Collector, Signal};
use self::lines::JsonLines;
use crate::settings::{SettingsError, within};

/// Tells the replicas of a service apart.
const INSTANCE: Key = Key::from_static_str("service.instance.id");
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time between two transfers of metrics, seconds.
const MAX_INTERVAL_SECONDS: u64 = 3600;

/// The `[telemetry]` table of every service's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// `text` for people, `json` for machines.
    pub log_format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// Where spans and metrics are sent by OTLP over gRPC, such as `http://127.0.0.1:4317`; empty for nowhere.
    pub otlp_endpoint: String,
    /// Seconds between two transfers of the metrics.
    pub metrics_interval_seconds: u64,
    /// Whether spans have the texts of requests.
    pub record_prompts: bool,
}

impl TelemetrySettings {
    /// Refuses an interval of 0, and what would not be an interval.
    pub fn validate(&self) -> Result<(), SettingsError> {
        within("telemetry.metrics_interval_seconds", self.metrics_interval_seconds, 1, MAX_INTERVAL_SECONDS)
    }
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
    traces: SdkTracerProvider,
    metrics: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// Installs logs, traces and metrics for this process. Must be called within a tokio runtime.
    pub fn install(service: &'static str, settings: &TelemetrySettings) -> Result<Self, SettingsError> {
        let wrong = |key: &str, error: &dyn std::fmt::Display| {
            SettingsError::value(format!("telemetry.{key}"), error.to_string())
        };
        let filter = EnvFilter::try_new(&settings.log_filter).map_err(|error| wrong("log_filter", &error))?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        // Colours are for people who look at a terminal.
        let lines = lines.with_ansi(std::io::stderr().is_terminal());
        // A line that cannot be written is lost: to complain of it, where standard error is full or closed, would be a panic.
        let lines = lines.log_internal_errors(false);
        let lines = match settings.log_format {
            LogFormat::Text => lines.with_target(false).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).map_event_format(JsonLines).boxed(),
        };
        let resource = resource(service);
        global::set_text_map_propagator(TraceContextPropagator::new());
        gen_ai::record_prompts(settings.record_prompts);
        let collector = Collector::new(&settings.otlp_endpoint);
        let mut traces = SdkTracerProvider::builder().with_resource(resource.clone());
        if !settings.otlp_endpoint.is_empty() {
            if !settings.otlp_endpoint.starts_with("http://") {
                return Err(wrong("otlp_endpoint", &"write http://host:port"));
            }
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(&settings.otlp_endpoint)
                .build()
                .map_err(|error| wrong("otlp_endpoint", &error))?;
            traces = traces.with_batch_exporter(collector.noting(Signal::Traces, exporter));
        }
        // Without a collector too: log lines name their trace, and a caller's trace goes on in the next service.
        let traces = traces.build();
        let metrics = metrics::install(settings, resource, &collector)?;
        // The exporter speaks gRPC itself: without this filter it would feed itself.
        let ours = tracing_subscriber::filter::filter_fn(|metadata| metadata.target().starts_with("reverie"));
        let exported = tracing_opentelemetry::layer().with_tracer(traces.tracer("reverie")).with_filter(ours);
        // A second call in one process (tests, the one-process mesh) keeps what is installed.
        let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(exported).try_init();
        Ok(Self { traces, metrics })
    }

    /// Sends the spans and metrics that are still waiting, for two seconds at most.
    pub fn shutdown(self) {
        let Self { traces, metrics } = self;
        thread::scope(|both| {
            both.spawn(|| {
                if let Some(Err(error)) = metrics.map(|metrics| metrics.shutdown_with_timeout(FLUSH_TIMEOUT))
                {
                    tracing::warn!(%error, "the last metrics could not be sent");
                }
            });
            if let Err(error) = traces.shutdown_with_timeout(FLUSH_TIMEOUT) {
                tracing::warn!(%error, "some spans could not be sent");
            }
        });
    }
}

/// What spans and metrics say of this process: its name and version, what `OTEL_RESOURCE_ATTRIBUTES` says, and an identifier of its own, so
/// that replicas are told apart (semantic conventions, "Service").
fn resource(service: &str) -> Resource {
    let builder = || {
        Resource::builder()
            .with_service_name(format!("reverie-{service}"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
    };
    let told = builder().build();
    if told.get(&INSTANCE).is_some() {
        return told;
    }
    let id = RandomIdGenerator::default().new_trace_id().to_string();
    builder().with_attribute(KeyValue::new(INSTANCE, id)).build()
}
