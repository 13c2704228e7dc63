//! DPM-Solver++: Lu et al. 2022, "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models",
//! algorithm 2 (2M), and its stochastic form (SDE-DPM-Solver++, the same paper's appendix). Multistep, second order, one
//! evaluation a step.
//!
//! With lambda = ln(a / s), h = lambda' - lambda, r = h_previous / h and m0, m1 the x0 of this and the previous step:
//!
//! 1. D = m0 + (m0 - m1) / (2 r); at the first step, and at a last one to no noise, D = m0
//! 2. x <- (s' / s) x + a' (1 - e^-h) D
//! 3. or, stochastic, x <- (s' / s) e^-h x + a' (1 - e^-2h) D + s' sqrt(1 - e^-2h) z

use crate::levels::{NoiseLevel, Waypoints};
use crate::step::{Combination, Evaluation};

/// m1
const PREVIOUS: usize = 0;

/// With fewer steps than this, a first-order last step may be the better one.
pub(crate) const FEW_STEPS: u32 = 15;

pub(crate) fn evaluations(
    trajectory: &Waypoints,
    stochastic: bool,
    first_order_last: bool,
) -> Vec<Evaluation> {
    let lambda = |i: usize| trajectory.level(i).lambda();
    let count = trajectory.points.len();
    // No straight line leads to lambda' = infinity.
    let first_order_last = first_order_last || trajectory.end == NoiseLevel::CLEAN;
    trajectory
        .steps()
        .enumerate()
        .map(|(i, (point, next))| {
            let level = point.level;
            // 1.
            let m0 = Combination::X0;
            let d = if i == 0 || (i + 1 == count && first_order_last) {
                m0
            } else {
                let r = (lambda(i) - lambda(i - 1)) / (lambda(i + 1) - lambda(i));
                m0 + (m0 - Combination::kept(PREVIOUS)) / (2.0 * r)
            };
            let e_h = level.a * next.s / (level.s * next.a);
            let evaluation = if stochastic {
                // 3.
                let fresh = 1.0 - e_h * e_h;
                let x = next.s / level.s * e_h * Combination::X + next.a * fresh * d;
                Evaluation::new(point, x).with_noise(next.s * fresh.sqrt())
            } else {
                // 2.
                Evaluation::new(point, next.s / level.s * Combination::X + next.a * (1.0 - e_h) * d)
            };
            evaluation.keeping(PREVIOUS, m0)
        })
        .collect()
}
