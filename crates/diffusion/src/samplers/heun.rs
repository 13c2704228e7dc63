//! Heun's method in sigma: Karras et al. 2022 (EDM), algorithm 1. Second order, two evaluations a step.
//!
//! With d = eps at sigma and d' = eps at sigma', both in units of signal:
//!
//! 1. x' = x + (sigma' - sigma) d
//! 2. x  <- x + (sigma' - sigma) (d + d') / 2, but in the last step, which ends where the model is not evaluated
//!
//! Flow matching has a path of its own, x = (1 - sigma) x0 + sigma eps, along which d = eps - x0 and x is the model's input
//! as it is: the same two lines over that sigma, which is 1 where sigma above would be infinite.

use crate::levels::{NoiseLevel, Waypoints};
use crate::step::{Combination, Evaluation};

/// What 2. knows before d': x + (sigma' - sigma) d / 2.
const HALF_WAY: usize = 0;

/// Over levels x = a x0 + s eps whose sigma is s / a.
pub(crate) fn evaluations(trajectory: &Waypoints) -> Vec<Evaluation> {
    corrected(trajectory, |from, to| {
        let (sigma, next_sigma) = (from.sigma(), to.sigma());
        let d = Combination::EPS;
        [
            // x0 + sigma d + (sigma' - sigma) d / 2
            Combination::X0 + f64::midpoint(sigma, next_sigma) * d,
            to.a * (Combination::kept(HALF_WAY) + (next_sigma - sigma) / 2.0 * d),
        ]
    })
}

/// Over levels of flow matching, whose sigma is s.
pub(crate) fn evaluations_of_flow(trajectory: &Waypoints) -> Vec<Evaluation> {
    corrected(trajectory, |from, to| {
        let half = (to.s - from.s) / 2.0 * (Combination::EPS - Combination::X0);
        [from.mix(Combination::X0, Combination::EPS) + half, Combination::kept(HALF_WAY) + half]
    })
}

/// `halves` gives what is kept half-way from one level to the next, and the next x over it and the second evaluation.
fn corrected(
    trajectory: &Waypoints,
    halves: impl Fn(NoiseLevel, NoiseLevel) -> [Combination; 2],
) -> Vec<Evaluation> {
    let mut evaluations = Vec::with_capacity(2 * trajectory.points.len());
    for (i, (point, next)) in trajectory.steps().enumerate() {
        // 1.
        let predict = Evaluation::new(point, next.mix(Combination::X0, Combination::EPS));
        // 2.
        if let Some(&next_point) = trajectory.points.get(i + 1) {
            let [half_way, x] = halves(point.level, next);
            evaluations.push(predict.keeping(HALF_WAY, half_way));
            evaluations.push(Evaluation::new(next_point, x));
        } else {
            evaluations.push(predict);
        }
    }
    evaluations
}
