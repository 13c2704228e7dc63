//! The memory of GPUs, as NVIDIA's management library tells it (NVML, which comes with the driver).

use std::sync::{Arc, Once};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::MemoryInfo;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::metrics;

/// From the first call on, reports the memory of all GPUs that the process can see, whenever metrics are read. Where that cannot be
/// known, the log says so, once.
pub(crate) fn observe_memory() {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        if let Err(error) = Nvml::init().and_then(|nvml| observe(&metrics::meter(), nvml)) {
            tracing::warn!(%error, "the memory of GPUs is not among the metrics");
        }
    });
}

/// Semantic conventions, "Hardware metrics": bytes that are taken, by whomever, and bytes that there are, by GPU.
fn observe(meter: &Meter, nvml: Nvml) -> Result<(), NvmlError> {
    let named = |index| -> Result<_, NvmlError> {
        let gpu = nvml.device_by_index(index)?;
        Ok((index, [KeyValue::new("hw.id", gpu.uuid()?), KeyValue::new("hw.name", gpu.name()?)]))
    };
    let known =
        |index| named(index).inspect_err(|error| tracing::warn!(index, %error, "a GPU does not answer")).ok();
    let gpus: Arc<[_]> = (0..nvml.device_count()?).filter_map(known).collect();
    let nvml = Arc::new(nvml);
    let report = |name: &'static str, value: fn(&MemoryInfo) -> u64| {
        let (nvml, gpus) = (Arc::clone(&nvml), Arc::clone(&gpus));
        meter
            .u64_observable_gauge(name)
            .with_unit("By")
            .with_callback(move |observer| {
                for (index, attributes) in &*gpus {
                    // A GPU that has gone is told by its absence.
                    if let Ok(memory) = nvml.device_by_index(*index).and_then(|gpu| gpu.memory_info()) {
                        observer.observe(value(&memory), attributes);
                    }
                }
            })
            .build();
    };
    report("hw.gpu.memory.usage", |memory| memory.used);
    report("hw.gpu.memory.limit", |memory| memory.total);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::process::Command;

    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics};
    use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

    use super::*;

    /// What the driver's library has of NVML's interface that is asked for, with two GPUs of which the second goes after a while.
    const LIBRARY: &str = r#"
        #include <stdint.h>
        #include <stdio.h>
        typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory;
        static int asked;
        int nvmlInit_v2(void) { return 0; }
        int nvmlShutdown(void) { return 0; }
        int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
        int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) {
            *gpu = (void *)(uintptr_t)(index + 1);
            return index < 2 ? 0 : 2;
        }
        int nvmlDeviceGetUUID(void *gpu, char *uuid, unsigned length) {
            snprintf(uuid, length, "GPU-%d", (int)(uintptr_t)gpu);
            return 0;
        }
        int nvmlDeviceGetName(void *gpu, char *name, unsigned length) { snprintf(name, length, "H100"); return 0; }
        int nvmlDeviceGetMemoryInfo_v2(void *gpu, memory *info) {
            if (info->version != (sizeof *info | 2 << 24)) return 25;
            if (gpu == (void *)2 && ++asked > 2) return 15;
            info->total = 80;
            info->used = 10 * (uintptr_t)gpu;
            return 0;
        }
    "#;

    fn library() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("nvml.c"), folder.path().join("libnvidia-ml.so.1"));
        fs::write(&source, LIBRARY).unwrap();
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        assert!(compiled.unwrap().success());
        (folder, library)
    }

    #[test]
    fn the_memory_of_each_gpu_is_told() {
        let (_folder, library) = library();
        let exporter = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter.clone()).build())
            .build();
        let nvml = Nvml::builder().lib_path(library.as_os_str()).init().unwrap();
        observe(&provider.meter("test"), nvml).unwrap();
        let read = || {
            exporter.reset();
            provider.force_flush().unwrap();
            let mut told = BTreeMap::new();
            let all = exporter.get_finished_metrics().unwrap();
            for metric in all.iter().flat_map(ResourceMetrics::scope_metrics).flat_map(ScopeMetrics::metrics)
            {
                let AggregatedMetrics::U64(MetricData::Gauge(gauge)) = metric.data() else {
                    panic!("{metric:?}");
                };
                for point in gauge.data_points() {
                    let labels: Vec<_> = point.attributes().map(|label| label.value.to_string()).collect();
                    told.insert(format!("{} {}", metric.name(), labels.join(" ")), point.value());
                }
            }
            told
        };
        let first = [("limit GPU-1", 80), ("limit GPU-2", 80), ("usage GPU-1", 10), ("usage GPU-2", 20)];
        let named = |(name, value): (&str, u64)| (format!("hw.gpu.memory.{name} H100"), value);
        assert_eq!(read(), first.map(named).into());
        let second = [("limit GPU-1", 80), ("usage GPU-1", 10)];
        assert_eq!(read(), second.map(named).into(), "the second has gone");
    }
}
