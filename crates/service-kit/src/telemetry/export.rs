//! What is sent to the collector. A collector that is away costs one line in the log, and one more when it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// What the collector is sent.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Signal {
    Traces = 1,
    Metrics = 2,
}

/// The collector at `telemetry.otlp_endpoint`, as far as it is known.
#[derive(Debug)]
pub(super) struct Collector {
    endpoint: String,
    /// The signals that it did not take last, each a bit.
    lost: AtomicU8,
}

impl Collector {
    pub(super) fn new(endpoint: &str) -> Arc<Self> {
        Arc::new(Self { endpoint: endpoint.to_owned(), lost: AtomicU8::new(0) })
    }

    /// What `exporter` sends to the collector.
    pub(super) fn noting<E>(self: &Arc<Self>, signal: Signal, exporter: E) -> Noted<E> {
        Noted { exporter, signal, collector: Arc::clone(self) }
    }

    /// Tells the log what is new.
    fn note(&self, signal: Signal, outcome: OTelSdkResult) {
        let (endpoint, bit) = (&self.endpoint, signal as u8);
        match outcome {
            Ok(()) => {
                if self.lost.fetch_and(!bit, Ordering::Relaxed) == bit {
                    tracing::info!(endpoint, "the collector takes traces and metrics again");
                }
            }
            Err(error) => {
                if self.lost.fetch_or(bit, Ordering::Relaxed) == 0 {
                    tracing::warn!(endpoint, %error, "the collector cannot be reached: traces and metrics are lost until it is back");
                }
            }
        }
    }
}

/// An exporter whose failures are noted.
#[derive(Debug)]
pub(super) struct Noted<E> {
    exporter: E,
    signal: Signal,
    collector: Arc<Collector>,
}

impl<E: SpanExporter> SpanExporter for Noted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        self.collector.note(self.signal, outcome);
        // To the SDK a failure would be a line in the log each time.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Noted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let outcome = self.exporter.export(metrics).await;
        self.collector.note(self.signal, outcome);
        // To the SDK a failure would be a line in the log each time.
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    /// Keeps log lines.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_collector_that_is_away_costs_one_line_and_one_when_it_is_back() {
        let log = Log::default();
        let kept = log.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || kept.clone()).finish();
        let _here = tracing::subscriber::set_default(lines);
        let lines = || String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
        let collector = Collector::new("http://127.0.0.1:4317");
        let note = |signal, is_taken: bool| {
            let failed = || OTelSdkError::InternalFailure("connection refused".to_owned());
            collector.note(signal, is_taken.then_some(()).ok_or_else(failed));
        };
        note(Signal::Traces, true);
        assert_eq!(lines(), "", "nothing is new");
        for _ in 0..3 {
            note(Signal::Traces, false);
            note(Signal::Metrics, false);
        }
        let away = lines();
        assert_eq!(away.lines().count(), 1, "{away}");
        assert!(away.contains("127.0.0.1:4317") && away.contains("connection refused"), "{away}");
        // One that takes metrics only is not back.
        note(Signal::Metrics, true);
        note(Signal::Traces, false);
        note(Signal::Metrics, true);
        assert_eq!(lines(), "");
        note(Signal::Traces, true);
        note(Signal::Metrics, true);
        let back = lines();
        assert!(back.lines().count() == 1 && back.contains("again"), "{back}");
        note(Signal::Metrics, false);
        assert_eq!(lines().lines().count(), 1, "away once more");
    }
}
