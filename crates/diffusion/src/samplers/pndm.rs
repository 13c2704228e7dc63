//! PNDM: Liu et al. 2022, "Pseudo numerical methods for diffusion models on manifolds", equations 9 to 13.
//!
//! The transfer phi moves x from t to t' along an eps: phi(x, eps) = sqrt(abar') x0 + sqrt(1 - abar') eps, with
//! x0 = (x - sqrt(1 - abar) eps) / sqrt(abar), as DDIM does. The eps is made of several evaluations:
//!
//! - pseudo Runge-Kutta, for the first three steps (four evaluations each): e1 at x, e2 at phi(x, e1) half-way, e3 at
//!   phi(x, e2) half-way, e4 at phi(x, e3) all the way; eps = (e1 + 2 e2 + 2 e3 + e4) / 6
//! - pseudo linear multistep, with e of this step and the three before:
//!   eps = (55 e - 59 e_1 + 37 e_2 - 9 e_3) / 24
//! - without Runge-Kutta (PLMS), the first step is done twice, the second time with the mean of its two e; the next two
//!   have (3 e - e_1) / 2 and (23 e - 16 e_1 + 5 e_2) / 12
//!
//! Where the model predicts v it is the v that are added up: phi reads eps from their sum.

use crate::levels::{NoiseLevel, NoiseSchedule, Point};
use crate::step::{Combination, Evaluation, PredictionType};

/// x at the beginning of a step of several evaluations.
const START: usize = 0;
/// What is there of the sum over a Runge-Kutta step.
const SUM: usize = 1;

/// What earlier steps predicted, by their number.
fn output(step: usize) -> usize {
    2 + step % 3
}

/// The steps that Runge-Kutta takes, and how many there must be for it.
const RUNGE_KUTTA_STEPS: usize = 3;
pub(crate) const MIN_STEPS: u32 = RUNGE_KUTTA_STEPS as u32 + 1;

/// What is known on the way: the schedule, and how outputs are read.
pub(crate) struct Transfer<'a> {
    schedule: &'a NoiseSchedule,
    predicts_v: bool,
    set_alpha_to_one: bool,
    stride: i64,
}

impl<'a> Transfer<'a> {
    /// `stride` is T / N, of all N steps even where not all are taken.
    pub(crate) fn new(
        schedule: &'a NoiseSchedule,
        stride: u32,
        prediction: PredictionType,
        set_alpha_to_one: bool,
    ) -> Self {
        let predicts_v = prediction == PredictionType::VPrediction;
        Self { schedule, predicts_v, set_alpha_to_one, stride: i64::from(stride) }
    }

    /// With Runge-Kutta: the timesteps fall, and there are at least [`MIN_STEPS`].
    pub(crate) fn pndm(&self, timesteps: &[u32]) -> Vec<Evaluation> {
        let timesteps: Vec<i64> = timesteps.iter().copied().map(i64::from).collect();
        let mut evaluations = Vec::with_capacity(timesteps.len() + 9);
        for step in 0..RUNGE_KUTTA_STEPS {
            evaluations.extend(self.runge_kutta(step, timesteps[step], timesteps[step + 1]));
        }
        let multistep = timesteps.iter().enumerate().skip(RUNGE_KUTTA_STEPS);
        evaluations.extend(multistep.map(|(step, &t)| self.multistep(step, t)));
        evaluations
    }

    /// Without: the model is told all timesteps in turn, the second one twice.
    ///
    /// From a picture the first `skipped` of what it is told are left out, and the first that is left is done twice. With it x
    /// stays a step behind what the model is told from there on; that is how diffusers draws.
    pub(crate) fn plms(&self, timesteps: &[u32], skipped: usize) -> Vec<Evaluation> {
        let told = timesteps.iter().take(2).chain(timesteps.iter().skip(1));
        let told = told.copied().map(i64::from).skip(skipped);
        told.enumerate()
            .map(|(nth, t)| match nth {
                0 => self.first(t),
                1 => self.first_again(t),
                _ => self.multistep(nth - 1, t),
            })
            .collect()
    }

    fn level(&self, t: i64) -> NoiseLevel {
        match u32::try_from(t) {
            Ok(t) => NoiseLevel::of_abar(self.schedule.abar(t.min(self.schedule.train_timesteps() - 1))),
            Err(_) if self.set_alpha_to_one => NoiseLevel::CLEAN,
            Err(_) => NoiseLevel::of_abar(self.schedule.abar(0)),
        }
    }

    fn point(&self, t: i64) -> Point {
        Point { timestep: t as f64, level: self.level(t) }
    }

    /// What the model predicted at `t`, v or eps.
    fn output(&self, t: i64) -> Combination {
        let NoiseLevel { a, s } = self.level(t);
        if self.predicts_v { a * Combination::EPS - s * Combination::X0 } else { Combination::EPS }
    }

    /// phi
    fn phi(&self, from: i64, to: i64, x: Combination, output: Combination) -> Combination {
        let NoiseLevel { a, s } = self.level(from);
        let (x0, eps) = if self.predicts_v {
            (a * x - s * output, a * output + s * x)
        } else {
            ((x - s * output) / a, output)
        };
        self.level(to).mix(x0, eps)
    }

    fn runge_kutta(&self, step: usize, t: i64, next: i64) -> [Evaluation; 4] {
        let half = self.stride / 2;
        let (start, sum) = (Combination::kept(START), Combination::kept(SUM));
        let e = |t| self.output(t);
        let middle = next + half;
        [
            Evaluation::new(self.point(t), self.phi(t, t - half, Combination::X, e(t)))
                .keeping(START, Combination::X)
                .keeping(SUM, e(t) / 6.0)
                .keeping(output(step), e(t)),
            Evaluation::new(self.point(middle), self.phi(t, middle, start, e(middle)))
                .keeping(SUM, sum + e(middle) / 3.0),
            Evaluation::new(self.point(middle), self.phi(t, next, start, e(middle)))
                .keeping(SUM, sum + e(middle) / 3.0),
            Evaluation::new(self.point(next), self.phi(t, next, start, sum + e(next) / 6.0)),
        ]
    }

    fn first(&self, t: i64) -> Evaluation {
        let e = self.output(t);
        Evaluation::new(self.point(t), self.phi(t, t - self.stride, Combination::X, e))
            .keeping(START, Combination::X)
            .keeping(output(0), e)
    }

    /// The first step once more, with what the model says at its end, `t`.
    fn first_again(&self, t: i64) -> Evaluation {
        let mean = (self.output(t) + Combination::kept(output(0))) / 2.0;
        Evaluation::new(self.point(t), self.phi(t + self.stride, t, Combination::kept(START), mean))
    }

    fn multistep(&self, step: usize, t: i64) -> Evaluation {
        let e = self.output(t);
        let before = |k: usize| Combination::kept(output(step - k));
        let sum = match step {
            1 => (3.0 * e - before(1)) / 2.0,
            2 => (23.0 * e - 16.0 * before(1) + 5.0 * before(2)) / 12.0,
            _ => (55.0 * e - 59.0 * before(1) + 37.0 * before(2) - 9.0 * before(3)) / 24.0,
        };
        Evaluation::new(self.point(t), self.phi(t, t - self.stride, Combination::X, sum))
            .keeping(output(step), e)
    }
}
