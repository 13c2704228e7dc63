//! The figures of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::calls::{Call, End};
use super::mix::{Kind, Mix};

/// Latencies, from 1 µs with three digits.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    fn of<'a>(calls: impl Iterator<Item = &'a Call>) -> Self {
        // Three digits are allowed, and a histogram that grows takes every value.
        #[expect(clippy::expect_used, reason = "fails for more than five digits only")]
        let mut histogram = Histogram::new(3).expect("three digits");
        for call in calls {
            // It grows to hold any value.
            let _ = histogram.record(u64::try_from(call.latency().as_micros()).unwrap_or(u64::MAX));
        }
        Self(histogram)
    }

    /// The latency that a share of the calls did not exceed, seconds; none if there are no calls.
    pub(super) fn at(&self, share: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share) as f64 / 1e6)
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean() / 1e6)
    }

    fn json(&self) -> Value {
        json!({
            "min": self.at(0.0), "mean": self.mean(), "p50": self.at(0.5), "p95": self.at(0.95), "p99": self.at(0.99),
            "max": self.at(1.0),
        })
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// What it is called in the report.
    pub(super) name: String,
    /// Calls made.
    pub(super) calls: usize,
    /// Calls per second while calls were made.
    pub(super) offered: f64,
    /// Images that came in time.
    pub(super) drawn: usize,
    /// Images per second that came in time, until the last of them.
    pub(super) goodput: f64,
    pub(super) refused: usize,
    pub(super) late: usize,
    pub(super) abandoned: usize,
    /// Calls that failed in any other way, by status.
    pub(super) failed: BTreeMap<String, usize>,
    /// Of the images that were drawn.
    pub(super) latency: Latencies,
    /// Of the calls that were refused.
    pub(super) refusal: Latencies,
    /// Share of the models' time that went to images nobody got, where the mesh's metrics can be read.
    pub(super) wasted: Option<f64>,
    /// Seconds from the last call until an image took at most one and a half times as long as alone; infinite if none did.
    pub(super) recovery: Option<f64>,
    /// The longest time by which this program made a call too late, seconds.
    pub(super) lag: f64,
    /// Of each kind of request, where there are several.
    pub(super) kinds: Vec<Figures>,
}

impl Figures {
    pub(super) fn of(name: String, calls: &[Call], window: Option<Duration>) -> Self {
        let drawn = || calls.iter().filter(|call| matches!(call.end, End::Drawn(_)));
        let refused = || calls.iter().filter(|call| matches!(call.end, End::Refused(_)));
        let last_made = calls.iter().map(|call| call.made).max().unwrap_or_default();
        let window = window.unwrap_or(last_made).max(Duration::from_millis(1));
        let until = drawn().map(|call| call.ended).max().unwrap_or(window);
        // A run whose images are all done before it is over had no more to do.
        let has_all = calls.iter().all(|call| matches!(call.end, End::Drawn(_) | End::Abandoned));
        let is_done = has_all && calls.iter().all(|call| call.ended <= window);
        let until = if is_done { until } else { until.max(window) };
        let mut failed = BTreeMap::new();
        for call in calls {
            if let End::Failed(code) = &call.end {
                *failed.entry(format!("{code:?}")).or_default() += 1;
            }
        }
        let count = |end: &End| calls.iter().filter(|call| call.end == *end).count();
        let lag = calls.iter().map(|call| call.made.saturating_sub(call.due)).max().unwrap_or_default();
        Self {
            name,
            calls: calls.len(),
            offered: calls.len() as f64 / window.as_secs_f64(),
            drawn: drawn().count(),
            goodput: drawn().count() as f64 / until.as_secs_f64(),
            refused: refused().count(),
            late: count(&End::Late),
            abandoned: count(&End::Abandoned),
            failed,
            latency: Latencies::of(drawn()),
            refusal: Latencies::of(refused()),
            wasted: None,
            recovery: None,
            lag: lag.as_secs_f64(),
            kinds: Vec::new(),
        }
    }

    /// With the figures of each kind of `mix`, where it has several.
    pub(super) fn of_mix(name: String, calls: &[Call], window: Option<Duration>, mix: &Mix) -> Self {
        let mut figures = Self::of(name, calls, window);
        if mix.kinds.len() > 1 {
            let of_kind = |(index, kind): (usize, &Kind)| {
                let calls: Vec<_> = calls.iter().filter(|call| call.kind == index).cloned().collect();
                Self::of(format!("{}: {}", figures.name, kind.name), &calls, window)
            };
            figures.kinds = mix.kinds.iter().enumerate().map(of_kind).collect();
        }
        figures
    }

    pub(super) fn failed(&self) -> usize {
        self.failed.values().sum()
    }

    /// Its goodput as a share of the highest; 0 where no run drew an image.
    pub(super) fn of_peak(&self, peak: f64) -> f64 {
        if peak > 0.0 { self.goodput / peak } else { 0.0 }
    }

    pub(super) fn json(&self, peak: f64) -> Value {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.json(peak)).collect();
        json!({
            "name": self.name, "calls": self.calls, "offered_per_second": self.offered,
            "drawn": self.drawn, "goodput_per_second": self.goodput, "goodput_of_peak": self.of_peak(peak),
            "refused": self.refused, "late": self.late, "abandoned": self.abandoned, "failed": self.failed,
            "latency_seconds": self.latency.json(), "refusal_seconds": self.refusal.json(),
            "wasted": self.wasted, "recovery_seconds": self.recovery, "lag_seconds": self.lag, "kinds": kinds,
        })
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "quotients of small whole numbers are exact")]
mod tests {
    use tonic::Code;

    use super::*;

    fn call(due: u64, made: u64, ended: u64, end: End) -> Call {
        let [due, made, ended] = [due, made, ended].map(Duration::from_millis);
        Call { kind: 0, due, made, ended, end }
    }

    fn drawn() -> End {
        End::Drawn(BTreeMap::new())
    }

    #[test]
    fn latency_counts_from_when_a_call_was_due() {
        let figures = Figures::of("x".into(), &[call(0, 900, 1000, drawn())], None);
        assert!((figures.latency.at(0.5).unwrap() - 1.0).abs() < 0.001, "not 0.1 s");
        assert_eq!(figures.lag, 0.9);
    }

    #[test]
    fn goodput_counts_images_in_time_and_nothing_else() {
        let calls = [
            call(0, 0, 1000, drawn()),
            call(0, 0, 20, End::Refused(Code::ResourceExhausted)),
            call(0, 0, 5000, End::Late),
            call(500, 500, 2000, drawn()),
            call(600, 600, 700, End::Abandoned),
            call(600, 600, 700, End::Failed(Code::Internal)),
        ];
        let figures = Figures::of("x".into(), &calls, Some(Duration::from_secs(2)));
        assert_eq!((figures.calls, figures.drawn, figures.refused, figures.late), (6, 2, 1, 1));
        assert_eq!((figures.abandoned, figures.failed()), (1, 1));
        assert_eq!((figures.offered, figures.goodput), (3.0, 1.0));
        let refusal = figures.refusal.at(0.99).unwrap();
        assert!((0.0199..0.0201).contains(&refusal), "{refusal}");
        assert!(figures.json(2.0)["goodput_of_peak"] == 0.5);
    }

    #[test]
    fn a_mesh_that_refuses_after_a_while_was_not_done_before() {
        let seconds = |number: usize| Some(Duration::from_secs(number as u64));
        let drawn: Vec<Call> = (0..10).map(|at| call(at * 100, at * 100, at * 100 + 1000, drawn())).collect();
        assert!(Figures::of("x".into(), &drawn, seconds(20)).goodput > 5.0, "it had no more to do");
        let refused = call(15_000, 15_000, 15_010, End::Refused(Code::Unavailable));
        let all: Vec<Call> = drawn.into_iter().chain([refused]).collect();
        assert_eq!(Figures::of("x".into(), &all, seconds(20)).goodput, 0.5);
    }

    #[test]
    fn a_run_of_refusals_has_no_latency() {
        let figures = Figures::of("x".into(), &[call(0, 0, 5, End::Refused(Code::Unavailable))], None);
        assert_eq!((figures.goodput, figures.latency.at(0.5)), (0.0, None));
        assert!(figures.json(0.0)["goodput_of_peak"] == 0.0, "a number, also where nothing was drawn");
    }
}
