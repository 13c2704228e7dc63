//! What a lane tells through OpenTelemetry, read by an exporter. The only test of its process: a process has one meter provider.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use reverie_engine::policy::{Caller, Class};
use reverie_engine::{Call, Cores, Lane, LaneSettings, RowError, RowModel};

/// What a row has the model do.
enum Order {
    Answer,
    Fail,
    /// Answers once the other end is dropped.
    Wait(mpsc::Receiver<()>),
}

struct Obedient;

impl RowModel for Obedient {
    type Row = Order;
    type Output = ();

    fn run(&mut self, rows: &mut [Order]) -> Result<Vec<()>, RowError> {
        let obey = |row: &mut Order| match row {
            Order::Answer => Ok(()),
            Order::Fail => Err(RowError::new("no memory")),
            Order::Wait(until) => {
                let _ = until.recv();
                Ok(())
            }
        };
        rows.iter_mut().map(obey).collect()
    }
}

fn call() -> Call {
    Call { caller: Caller(1), class: Class::Interactive, deadline: None, origin: 0 }
}

/// Keeps another session busy until the sender is dropped, so that `running` are.
async fn busy(lane: &Lane<Obedient>, running: usize) -> mpsc::Sender<()> {
    let (until, wait) = mpsc::channel();
    tokio::spawn(lane.run(call(), Order::Wait(wait)));
    while lane.stats().running < running {
        tokio::task::yield_now().await;
    }
    until
}

/// What a point has besides its model.
fn other<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let others = attributes.filter(|attribute| attribute.key.as_str() != "model");
    others.map(|attribute| attribute.value.to_string()).collect()
}

/// Of one metric, the values with the attribute `model` = `of`: each with its other attribute, if it has one.
fn points(metrics: &[ResourceMetrics], name: &str, of: &str) -> Vec<(String, f64)> {
    let scopes = metrics.last().unwrap().scope_metrics();
    let metric = scopes.flat_map(ScopeMetrics::metrics).find(|metric| metric.name() == name);
    let is_of = |key: &KeyValue| key.key.as_str() == "model" && key.value.as_str() == of;
    match metric.unwrap_or_else(|| panic!("no metric {name}")).data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            let of_model = sum.data_points().filter(|point| point.attributes().any(is_of));
            of_model.map(|point| (other(point.attributes()), point.value() as f64)).collect()
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            let of_model = gauge.data_points().filter(|point| point.attributes().any(is_of));
            of_model.map(|point| (other(point.attributes()), point.value())).collect()
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            let of_model = histogram.data_points().filter(|point| point.attributes().any(is_of));
            of_model.map(|point| (other(point.attributes()), point.count() as f64)).collect()
        }
        _ => panic!("{name} is of another kind"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_tells_what_it_does() {
    let exporter = InMemoryMetricExporter::default();
    let provider =
        SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build()).build();
    opentelemetry::global::set_meter_provider(provider.clone());
    let settings = LaneSettings {
        max_jobs: 10,
        stall_seconds: 60.0,
        calibration_seconds: 1.0,
        row_seconds: BTreeMap::new(),
    };
    let models = vec![Obedient, Obedient];
    let lane = Lane::start("observed", models, &settings, &Arc::new(Cores::new(2)), 1).unwrap();
    for order in [Order::Answer, Order::Answer, Order::Fail] {
        let _ = lane.run(call(), order).await;
    }
    let late = Call { deadline: Some(Instant::now()), ..call() };
    lane.run(late, Order::Answer).await.unwrap_err();
    let first = busy(&lane, 1).await;
    let second = busy(&lane, 2).await;
    let waiting = lane.run(call(), Order::Answer);
    provider.force_flush().unwrap();
    let metrics = exporter.get_finished_metrics().unwrap();
    let value = |name: &str| points(&metrics, name, "observed")[0].1;
    assert!((value("reverie.lane.queue.depth") - 1.0).abs() < 1e-9);
    assert!((value("reverie.lane.active") - 2.0).abs() < 1e-9);
    assert!((value("reverie.lane.occupancy") - 1.0).abs() < 1e-9);
    assert!(value("reverie.lane.queue.age") > 0.0 && value("reverie.lane.backlog") > 0.0);
    assert!((value("reverie.lane.row.duration") - 3.0).abs() < 1e-9);
    let mut ended = points(&metrics, "reverie.lane.jobs", "observed");
    ended.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [("failed", 1.0), ("finished", 2.0), ("refused", 1.0)];
    assert_eq!(ended, expected.map(|(outcome, count)| (outcome.to_owned(), count)));
    drop((first, second));
    waiting.await.unwrap();
}
