//! What rows cost on a simulated machine, and what is known of that beforehand.

use reverie_engine::cost::Cost;
use reverie_engine::policy::{Job, Left, Seconds};

use super::Arrival;
use super::arrivals::ROW;

/// A machine that computes rows.
#[derive(Clone)]
pub(crate) struct Machine {
    /// What the lane measures; none if it is told what each arrival says.
    measured: Option<Cost>,
    /// How many times as long as usual a row takes at a time.
    pace: fn(Seconds) -> f64,
    /// Of how many rows one takes twenty times as long; 0 for none.
    one_outlier_of: u64,
    rows: u64,
}

impl Machine {
    /// Rows cost what their arrivals say; the lane is told what they say it is told.
    pub(crate) fn told() -> Self {
        Self { measured: None, pace: |_| 1.0, one_outlier_of: 0, rows: 0 }
    }

    /// The lane measures, after a calibration in which a row took `calibrated` times as long as it does.
    pub(crate) fn measured(calibrated: Option<f64>) -> Self {
        let mut cost = Cost::default();
        if let Some(times) = calibrated {
            cost.note_calibration(1.0, times * ROW, 0.0);
        }
        Self { measured: Some(cost), ..Self::told() }
    }

    pub(crate) fn with_pace(self, pace: fn(Seconds) -> f64) -> Self {
        Self { pace, ..self }
    }

    pub(crate) fn with_outliers(self, one_of: u64) -> Self {
        Self { one_outlier_of: one_of, ..self }
    }

    pub(super) fn is_measuring(&self) -> bool {
        self.measured.is_some()
    }

    pub(super) fn predict(&self, job: &mut Job, left: Left, arrival: &Arrival, slots: usize) {
        match &self.measured {
            Some(cost) => job.predict(left, 1.0, cost, slots),
            None => job.predict(left, 1.0, &Cost::set(arrival.predicted_row, 1.0), slots),
        }
    }

    /// What a row takes that begins now.
    pub(super) fn row_time(&mut self, usual: Seconds, now: Seconds) -> Seconds {
        self.rows += 1;
        let is_outlier = self.one_outlier_of > 0
            && (self.rows.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 17).is_multiple_of(self.one_outlier_of);
        usual * (self.pace)(now) * if is_outlier { 20.0 } else { 1.0 }
    }

    pub(super) fn wake(&mut self, now: Seconds) {
        if let Some(cost) = &mut self.measured {
            cost.wake(now);
        }
    }

    pub(super) fn note_pass(&mut self, seconds: Seconds, now: Seconds) {
        if let Some(cost) = &mut self.measured {
            cost.note_pass(1.0, seconds, 0.0, now);
        }
    }
}
