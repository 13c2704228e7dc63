//! What lanes and caches tell through the OpenTelemetry metrics API.
//!
//! | Instrument | Unit | Attributes | |
//! | --- | --- | --- | --- |
//! | `reverie.lane.jobs` | {job} | `model`, `outcome` | jobs that ended: `finished`, `failed`, `expired`, `cancelled`, `refused` |
//! | `reverie.lane.row.duration` | s | `model` | time of the forward pass that computed a row |
//! | `reverie.lane.queue.depth` | {job} | `model` | jobs of which no row was started |
//! | `reverie.lane.active` | {job} | `model` | jobs of which a row was started |
//! | `reverie.lane.queue.age` | s | `model` | age of the oldest job |
//! | `reverie.lane.row.cost` | s | `model` | predicted time of a forward pass over rows of the model's own shape, with its wait for a core |
//! | `reverie.lane.backlog` | s | `model` | predicted time until all jobs are done: predicted time of a pass times the rows left, over the rows computed at a time |
//! | `reverie.lane.occupancy` | | `model` | share of the sessions that are computing, 0 to 1 |
//! | `reverie.cache.lookups` | | `cache`, `hit` | |
//! | `reverie.cache.size` | By | `cache` | |
//! | `hw.gpu.memory.usage` | By | `hw.id`, `hw.name` | bytes taken on a GPU, by whomever |
//! | `hw.gpu.memory.limit` | By | `hw.id`, `hw.name` | bytes that it has |
//!
//! Without a meter provider all of it does nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram, Meter};
use opentelemetry::{KeyValue, global};

use crate::lane::{Queue, RowModel, Stats};

/// Upper bounds of the histogram of row times, in seconds.
const ROW_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished,
    Failed,
    Expired,
    Cancelled,
    Refused,
}

impl Outcome {
    pub(crate) fn count(self, model: &Arc<str>) {
        let name = match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        };
        instruments().jobs.add(1, &[of(model), KeyValue::new("outcome", name)]);
    }
}

pub(crate) fn record_row(model: &Arc<str>, time: Duration) {
    instruments().rows.record(time.as_secs_f64(), &[of(model)]);
}

/// Notes that `cache` was asked.
pub fn record_lookup(cache: &'static str, hit: bool) {
    instruments().lookups.add(1, &[KeyValue::new("cache", cache), KeyValue::new("hit", hit)]);
}

/// Reports the size of `cache` whenever metrics are read, as long as `bytes` gives it.
pub fn observe_cache(cache: &'static str, bytes: impl Fn() -> Option<u64> + Send + Sync + 'static) {
    meter()
        .u64_observable_gauge("reverie.cache.size")
        .with_unit("By")
        .with_callback(move |observer| {
            if let Some(bytes) = bytes() {
                observer.observe(bytes, &[KeyValue::new("cache", cache)]);
            }
        })
        .build();
}

/// Reports the state of a lane whenever metrics are read, as long as there is the lane.
pub(crate) fn observe_lane<M: RowModel>(queue: &Arc<Queue<M>>, sessions: usize) {
    let gauge = |name: &'static str, unit: &'static str, value: fn(&Stats, f64) -> f64| {
        let (queue, model) = (Arc::downgrade(queue), of(&queue.name));
        let sessions = sessions as f64;
        meter()
            .f64_observable_gauge(name)
            .with_unit(unit)
            .with_callback(move |observer| {
                if let Some(queue) = queue.upgrade() {
                    observer.observe(value(&queue.stats(), sessions), std::slice::from_ref(&model));
                }
            })
            .build();
    };
    gauge("reverie.lane.queue.depth", "{job}", |stats, _| stats.waiting as f64);
    gauge("reverie.lane.active", "{job}", |stats, _| stats.active as f64);
    gauge("reverie.lane.queue.age", "s", |stats, _| stats.oldest_seconds);
    gauge("reverie.lane.row.cost", "s", |stats, _| stats.pass_seconds);
    gauge("reverie.lane.backlog", "s", |stats, _| stats.backlog_seconds);
    gauge("reverie.lane.occupancy", "", |stats, sessions| stats.running as f64 / sessions);
}

struct Instruments {
    jobs: Counter<u64>,
    rows: Histogram<f64>,
    lookups: Counter<u64>,
}

fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = meter();
        let rows = meter.f64_histogram("reverie.lane.row.duration").with_unit("s");
        Instruments {
            jobs: meter.u64_counter("reverie.lane.jobs").build(),
            rows: rows.with_boundaries(ROW_SECONDS.to_vec()).build(),
            lookups: meter.u64_counter("reverie.cache.lookups").build(),
        }
    })
}

pub(crate) fn meter() -> Meter {
    global::meter("reverie-engine")
}

fn of(model: &Arc<str>) -> KeyValue {
    KeyValue::new("model", Arc::clone(model))
}
