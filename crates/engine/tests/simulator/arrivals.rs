//! What arrives at a lane.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie_engine::policy::{Caller, Class, Seconds};

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) at: Seconds,
    pub(crate) caller: Caller,
    pub(crate) class: Class,
    pub(crate) steps: u32,
    pub(crate) rows_per_step: u32,
    /// Rows of equal shapes may share a pass.
    pub(crate) shape: u8,
    /// Seconds after arrival.
    pub(crate) deadline: Option<Seconds>,
    /// Seconds after arrival.
    pub(crate) cancelled_after: Option<Seconds>,
    /// The row that fails.
    pub(crate) fails_at_row: Option<u32>,
    /// What the scheduler is told a row costs.
    pub(crate) predicted_row: Seconds,
    /// What a row costs on average.
    pub(crate) row: Seconds,
    /// How far rows depart from that, 0 to below 1.
    pub(crate) jitter: f64,
}

/// A row of the bundled base model on one core (two rows side by side in 9.7 ms).
pub(crate) const ROW: Seconds = 0.0097;

impl Arrival {
    /// An image of so many guided steps.
    pub(crate) fn image(at: Seconds, steps: u32) -> Self {
        Self {
            at,
            caller: Caller(0),
            class: Class::Interactive,
            steps,
            rows_per_step: 2,
            shape: 0,
            deadline: None,
            cancelled_after: None,
            fails_at_row: None,
            predicted_row: ROW,
            row: ROW,
            jitter: 0.0,
        }
    }

    /// Of this caller.
    pub(crate) fn by(self, caller: u64) -> Self {
        Self { caller: Caller(caller), ..self }
    }

    /// With a deadline, in seconds after the arrival.
    pub(crate) fn within(self, seconds: Seconds) -> Self {
        Self { deadline: Some(seconds), ..self }
    }

    /// Seconds of work on one session.
    pub(crate) fn work(&self) -> Seconds {
        f64::from(self.steps * self.rows_per_step) * self.row
    }

    /// Seconds alone on an idle lane.
    pub(crate) fn alone(&self, sessions: usize) -> Seconds {
        f64::from(self.steps * self.rows_per_step.div_ceil(sessions as u32)) * self.row
    }

    /// How long the row of this number takes.
    pub(super) fn row_time(&self, number: u32) -> Seconds {
        // A cheap hash is random enough for jitter, and the same for every policy.
        let hash = (u64::from(number) ^ self.at.to_bits()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
        let unit = hash as f64 / (1_u64 << 53) as f64;
        self.row * (1.0 + self.jitter * (2.0 * unit - 1.0))
    }
}

/// Poisson arrivals at `load` times the capacity of `sessions` for `seconds`; `make` draws each image.
pub(crate) fn poisson(
    seed: u64,
    load: f64,
    sessions: usize,
    seconds: Seconds,
    mean_work: Seconds,
    mut make: impl FnMut(&mut StdRng, Seconds) -> Arrival,
) -> Vec<Arrival> {
    let mut random = StdRng::seed_from_u64(seed);
    let mean_gap = mean_work / (load * sessions as f64);
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    loop {
        at -= mean_gap * (1.0 - random.random::<f64>()).ln();
        if at >= seconds {
            return arrivals;
        }
        arrivals.push(make(&mut random, at));
    }
}

/// One of `choices`.
pub(crate) fn pick<T: Copy>(random: &mut StdRng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}

/// Images of 8, 16 and 50 steps from three callers, each due in 5 s.
pub(crate) fn mixed(seed: u64, load: f64, sessions: usize, seconds: Seconds) -> Vec<Arrival> {
    let mean_work = (8.0 + 16.0 + 50.0) / 3.0 * 2.0 * ROW;
    poisson(seed, load, sessions, seconds, mean_work, |random, at| {
        Arrival::image(at, pick(random, &[8, 16, 50])).by(pick(random, &[1, 2, 3])).within(5.0)
    })
}

/// Caller 1 floods the lane with 50-step images at `load` times its capacity; caller 2 asks for 16 steps every 2 s.
pub(crate) fn flood(seed: u64, load: f64, sessions: usize, seconds: Seconds) -> Vec<Arrival> {
    let work = Arrival::image(0.0, 50).work();
    let mut arrivals =
        poisson(seed, load, sessions, seconds, work, |_, at| Arrival::image(at, 50).by(1).within(5.0));
    arrivals.extend(
        (0..(seconds / 2.0) as u32).map(|i| Arrival::image(2.0 * f64::from(i), 16).by(2).within(5.0)),
    );
    arrivals.sort_by(|a, b| a.at.total_cmp(&b.at));
    arrivals
}

/// Anything: lengths, rows, callers, classes, deadlines, cancels, failures, wrong predictions.
pub(crate) fn anything(seed: u64, load: f64, sessions: usize, seconds: Seconds) -> Vec<Arrival> {
    let mean_work = 30.0 * 2.0 * ROW;
    poisson(seed, load, sessions, seconds, mean_work, |random, at| {
        let steps = pick(random, &[1, 2, 4, 8, 16, 30, 50, 100]);
        let mut arrival = Arrival::image(at, steps).by(random.random_range(0..6));
        arrival.rows_per_step = random.random_range(1..=3);
        arrival.class = if random.random_bool(0.3) { Class::Batch } else { Class::Interactive };
        arrival.deadline = random.random_bool(0.7).then(|| random.random_range(0.05..8.0));
        arrival.cancelled_after = random.random_bool(0.15).then(|| random.random_range(0.0..3.0));
        arrival.fails_at_row = random.random_bool(0.05).then(|| random.random_range(1..=steps));
        arrival.predicted_row = ROW * random.random_range(0.7..1.4);
        arrival.shape = random.random_range(0..2);
        arrival.jitter = 0.3;
        arrival
    })
}
