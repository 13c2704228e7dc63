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

use crate::combination::Combination;
use crate::evaluation::Evaluation;
use crate::level::{Level, Point};
use crate::prediction::PredictionType;
use crate::schedule::NoiseSchedule;

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
struct Transfer<'a> {
    schedule: &'a NoiseSchedule,
    predicts_v: bool,
    set_alpha_to_one: bool,
    stride: i64,
}

/// The timesteps fall; with Runge-Kutta there are at least [`MIN_STEPS`]. `stride` is T / N, of all N steps even where not
/// all are taken.
pub(crate) fn evaluations(
    schedule: &NoiseSchedule,
    timesteps: &[u32],
    stride: u32,
    prediction: PredictionType,
    runge_kutta: bool,
    set_alpha_to_one: bool,
) -> Vec<Evaluation> {
    let transfer = Transfer {
        schedule,
        predicts_v: prediction == PredictionType::VPrediction,
        set_alpha_to_one,
        stride: i64::from(stride),
    };
    let timesteps: Vec<i64> = timesteps.iter().copied().map(i64::from).collect();
    let mut evaluations = Vec::with_capacity(timesteps.len() + 9);
    let multistep_from = if runge_kutta {
        for step in 0..RUNGE_KUTTA_STEPS {
            evaluations.extend(transfer.runge_kutta(step, timesteps[step], timesteps[step + 1]));
        }
        RUNGE_KUTTA_STEPS
    } else {
        evaluations.extend(transfer.first_twice(timesteps[0], timesteps.get(1).copied()));
        1
    };
    for (step, &t) in timesteps.iter().enumerate().skip(multistep_from) {
        evaluations.push(transfer.multistep(step, t));
    }
    evaluations
}

impl Transfer<'_> {
    fn level(&self, t: i64) -> Level {
        match u32::try_from(t) {
            Ok(t) => Level::of_abar(self.schedule.abar(t.min(self.schedule.train_timesteps() - 1))),
            Err(_) if self.set_alpha_to_one => Level::CLEAN,
            Err(_) => Level::of_abar(self.schedule.abar(0)),
        }
    }

    fn point(&self, t: i64) -> Point {
        Point { timestep: t as f64, level: self.level(t) }
    }

    /// What the model predicted at `t`, v or eps.
    fn output(&self, t: i64) -> Combination {
        let Level { a, s } = self.level(t);
        if self.predicts_v { a * Combination::EPS - s * Combination::X0 } else { Combination::EPS }
    }

    /// phi
    fn phi(&self, from: i64, to: i64, x: Combination, output: Combination) -> Combination {
        let Level { a, s } = self.level(from);
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

    fn first_twice(&self, t: i64, next: Option<i64>) -> Vec<Evaluation> {
        let e = self.output(t);
        let first = Evaluation::new(self.point(t), self.phi(t, t - self.stride, Combination::X, e))
            .keeping(START, Combination::X)
            .keeping(output(0), e);
        let again = next.map(|next| {
            let mean = (self.output(next) + Combination::kept(output(0))) / 2.0;
            let x = self.phi(next + self.stride, next, Combination::kept(START), mean);
            Evaluation::new(self.point(next), x)
        });
        [first].into_iter().chain(again).collect()
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
