//! The meter provider of the process: a Prometheus registry for the admin server and, with an endpoint, a periodic OTLP exporter;
//! and what every process tells of itself.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};

use super::TelemetrySettings;
use super::export::{Collector, Signal};
use crate::readiness;
use crate::settings::SettingsError;

/// The commit that was built, as the variable `REVERIE_COMMIT` says: that of the build, or that of an image; "" where neither does.
pub static COMMIT: LazyLock<String> = LazyLock::new(|| {
    let of_build = option_env!("REVERIE_COMMIT").map(str::to_owned);
    let commit = of_build.or_else(|| std::env::var("REVERIE_COMMIT").ok()).unwrap_or_default();
    // It is written into JSON and labels as it is.
    if commit != "unknown" && commit.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        commit
    } else {
        String::new()
    }
});

/// What `/metrics` shows.
static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Installs the provider. A second call in one process (tests) keeps what is installed, since instruments stay with the first one.
pub(super) fn install(
    settings: &TelemetrySettings,
    resource: Resource,
    collector: &Arc<Collector>,
) -> Result<Option<SdkMeterProvider>, SettingsError> {
    let registry = Registry::new();
    if REGISTRY.set(registry.clone()).is_err() {
        return Ok(None);
    }
    let wrong =
        |error: &dyn std::fmt::Display| SettingsError::value("telemetry.otlp_endpoint", error.to_string());
    // Names are as docs/metrics.md lists them; labels of the library's own would only repeat themselves.
    let prometheus = opentelemetry_prometheus::exporter()
        .with_registry(registry)
        .scope_info_enabled(false)
        .build()
        .map_err(|error| wrong(&error))?;
    let mut builder = SdkMeterProvider::builder().with_resource(resource).with_reader(prometheus);
    if !settings.otlp_endpoint.is_empty() {
        let exporter = MetricExporter::builder().with_tonic().with_endpoint(&settings.otlp_endpoint);
        let exporter = exporter.build().map_err(|error| wrong(&error))?;
        let interval = Duration::from_secs(settings.metrics_interval_seconds);
        builder = builder.with_reader(
            PeriodicReader::builder(collector.noting(Signal::Metrics, exporter))
                .with_interval(interval)
                .build(),
        );
    }
    let provider = builder.build();
    global::set_meter_provider(provider.clone());
    observe_process();
    Ok(Some(provider))
}

/// All metrics in the Prometheus text format.
///
/// # Errors
/// That they cannot be gathered.
pub fn text() -> Result<String, prometheus::Error> {
    let families = REGISTRY.get().map(Registry::gather).unwrap_or_default();
    TextEncoder::new().encode_to_string(&families)
}

/// What an epoch of a knowledge base has.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
    /// Entries.
    pub entries: u64,
    /// Entries that are deleted, and still stored.
    pub deleted: u64,
    /// Segments.
    pub segments: u64,
}

/// Tells which epoch of the knowledge base `name` the service has.
pub fn knowledge_base(name: &str, epoch: Epoch) {
    let meter = global::meter("reverie-service-kit");
    let named = [KeyValue::new("knowledge_base", name.to_owned())];
    let gauges = [
        ("reverie.knowledge_base.epoch", "Number of the epoch that is served", epoch.number),
        ("reverie.knowledge_base.entries", "Entries of that epoch", epoch.entries),
        ("reverie.knowledge_base.deleted", "Deleted entries that are still stored", epoch.deleted),
        ("reverie.knowledge_base.segments", "Segments of that epoch", epoch.segments),
    ];
    for (gauge, description, value) in gauges {
        meter.u64_gauge(gauge).with_description(description).build().record(value, &named);
    }
}

/// Tells whether a later epoch of a knowledge base cannot be loaded.
pub fn knowledge_base_is_stale(name: &str, is_stale: bool) {
    global::meter("reverie-service-kit")
        .u64_gauge("reverie.knowledge_base.stale")
        .with_description("1 if a later epoch cannot be loaded, or nobody knows whether there is one, else 0")
        .build()
        .record(u64::from(is_stale), &[KeyValue::new("knowledge_base", name.to_owned())]);
}

/// Tells since when and until when the certificate is valid that the process shows as a `server` or a `client`, in seconds since 1970.
pub(crate) fn certificate(side: &'static str, not_before: i64, not_after: i64) {
    let meter = global::meter("reverie-service-kit");
    for (gauge, description, time) in [
        ("reverie.tls.certificate.not_before.timestamp", "Since when the certificate is valid", not_before),
        ("reverie.tls.certificate.not_after.timestamp", "Until when the certificate is valid", not_after),
    ] {
        let gauge = meter.i64_gauge(gauge).with_unit("s").with_description(description).build();
        gauge.record(time, &[KeyValue::new("side", side)]);
    }
}

/// Build, health and resources of the process (semantic conventions, "Process metrics").
fn observe_process() {
    let meter = global::meter("reverie-service-kit");
    meter
        .u64_observable_gauge("reverie.build.info")
        .with_description("Always 1; the labels say what was built")
        .with_callback(|observer| {
            let version = KeyValue::new("version", env!("CARGO_PKG_VERSION"));
            observer.observe(1, &[version, KeyValue::new("commit", COMMIT.as_str())]);
        })
        .build();
    meter
        .u64_observable_gauge("reverie.serving")
        .with_description("1 if the service is SERVING, else 0")
        .with_callback(|observer| {
            for (service, serves) in readiness::all() {
                observer.observe(u64::from(serves), &[KeyValue::new("service", service)]);
            }
        })
        .build();
    let begun = Instant::now();
    meter
        .f64_observable_gauge("process.uptime")
        .with_unit("s")
        .with_description("Time since telemetry was installed")
        .with_callback(move |observer| observer.observe(begun.elapsed().as_secs_f64(), &[]))
        .build();
    meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_description("CPU time of the process")
        .with_callback(|observer| {
            if let Some((user, system)) = cpu_seconds() {
                observer.observe(user, &[KeyValue::new("cpu_mode", "user")]);
                observer.observe(system, &[KeyValue::new("cpu_mode", "system")]);
            }
        })
        .build();
    for (name, unit, description, read) in [
        ("process.memory.usage", "By", "Resident memory", resident_bytes as fn() -> Option<u64>),
        ("process.open_file_descriptor.count", "{descriptor}", "Open file descriptors", open_descriptors),
        ("process.thread.count", "{thread}", "Threads", threads),
    ] {
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(value) = read() {
                    observer.observe(value, &[]);
                }
            })
            .build();
    }
}

/// User and system time of the process, seconds.
fn cpu_seconds() -> Option<(f64, f64)> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    #[expect(unsafe_code, reason = "the standard library does not tell the CPU time")]
    // SAFETY: the pointer is valid for a write, and the struct is filled where the call succeeds.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some((seconds(usage.ru_utime), seconds(usage.ru_stime)))
}

/// A number of `/proc/self/status`; nothing where there is no such file.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes() -> Option<u64> {
    status("VmRSS").map(|kib| kib << 10)
}

fn threads() -> Option<u64> {
    status("Threads")
}

fn open_descriptors() -> Option<u64> {
    // The listing has a descriptor of its own.
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as u64)
}
