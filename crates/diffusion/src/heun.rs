//! Heun's method in sigma: Karras et al. 2022 (EDM), algorithm 1. Second order, two evaluations a step.
//!
//! With d = eps at sigma and d' = eps at sigma', both in units of signal:
//!
//! 1. x' = x + (sigma' - sigma) d
//! 2. x  <- x + (sigma' - sigma) (d + d') / 2, but in the last step, which ends where the model is not evaluated

use crate::combination::Combination;
use crate::evaluation::Evaluation;
use crate::level::Trajectory;

/// What 2. knows before d': x0 + sigma d + (sigma' - sigma) d / 2.
const HALF_WAY: usize = 0;

pub(crate) fn evaluations(trajectory: &Trajectory) -> Vec<Evaluation> {
    let mut evaluations = Vec::with_capacity(2 * trajectory.points.len());
    let d = Combination::EPS;
    for (i, (point, next)) in trajectory.steps().enumerate() {
        let (sigma, next_sigma) = (point.level.sigma(), next.sigma());
        // 1.
        let predict = Evaluation::new(point, next.mix(Combination::X0, d));
        // 2.
        if let Some(&next_point) = trajectory.points.get(i + 1) {
            let half_way = Combination::X0 + f64::midpoint(sigma, next_sigma) * d;
            let corrected = Combination::kept(HALF_WAY) + (next_sigma - sigma) / 2.0 * d;
            evaluations.push(predict.keeping(HALF_WAY, half_way));
            evaluations.push(Evaluation::new(next_point, next.a * corrected));
        } else {
            evaluations.push(predict);
        }
    }
    evaluations
}
