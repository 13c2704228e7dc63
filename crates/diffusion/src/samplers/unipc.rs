//! UniPC: Zhao et al. 2023, "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models",
//! algorithms 1 and 2 in the form that predicts x0, with B(h) = e^-h - 1 (B2). Multistep, of order p (the predictor) and
//! p + 1 (the corrector); one evaluation a step, which the corrector of the step before shares.
//!
//! With m_0 the latest x0, m_k those before, r_k = (lambda_k - lambda_0) / h and D_k = (m_k - m_0) / r_k:
//!
//! 1. correct: x  <- (s / s_0) x_0 + a (1 - e^-h) (m_0 + sum_k rho_k D_k + rho_p (m - m_0)), m the x0 just predicted
//! 2. predict: x' <- (s' / s) x + a' (1 - e^-h) (m_0 + sum_k rho_k D_k)
//!
//! where the rho solve sum_k rho_k r_k^(j-1) = b_j, with r_p = 1 for the m of 1.

use crate::levels::{NoiseLevel, Waypoints};
use crate::step::{Combination, Evaluation};

/// The highest order.
pub(crate) const MAX_ORDER: u32 = 3;

/// x at the latest point, corrected.
const CORRECTED: usize = 0;

/// x0 at point `i`, until `order` later.
fn model(i: usize, order: usize) -> usize {
    1 + i % order
}

/// A point in the past: its lambda, and its x0.
type Known = (f64, Combination);

pub(crate) fn evaluations(trajectory: &Waypoints, order: u32) -> Vec<Evaluation> {
    let order = order as usize;
    let count = trajectory.points.len();
    let kept = |i: usize| (trajectory.level(i).lambda(), Combination::kept(model(i, order)));
    // Less at first, when little is known, and at the end, where the last step has no curvature.
    let order_at = |i: usize| order.min(i + 1).min(count - i);
    trajectory
        .steps()
        .enumerate()
        .map(|(i, (point, next))| {
            // 1.
            let corrected = if i == 0 {
                Combination::X
            } else {
                let history: Vec<Known> = (0..order_at(i - 1)).map(|k| kept(i - 1 - k)).collect();
                let from = trajectory.level(i - 1);
                update(from, point.level, Combination::kept(CORRECTED), &history, Some(Combination::X0))
            };
            // 2.
            let latest = (point.level.lambda(), Combination::X0);
            let history: Vec<Known> =
                [latest].into_iter().chain((1..order_at(i)).map(|k| kept(i - k))).collect();
            let predicted = update(point.level, next, corrected, &history, None);
            Evaluation::new(point, predicted)
                .keeping(CORRECTED, corrected)
                .keeping(model(i, order), Combination::X0)
        })
        .collect()
}

/// From `x` at `from` to `to`, by the x0 in `history` (the latest first) and, to correct, by that at `to`.
fn update(
    from: NoiseLevel,
    to: NoiseLevel,
    x: Combination,
    history: &[Known],
    at_end: Option<Combination>,
) -> Combination {
    let (lambda_0, m_0) = history[0];
    let h = to.lambda() - lambda_0;
    let (mut r, mut d): (Vec<f64>, Vec<Combination>) = history[1..]
        .iter()
        .map(|&(lambda, m)| {
            let r = (lambda - lambda_0) / h;
            (r, (m - m_0) / r)
        })
        .unzip();
    if let Some(m) = at_end {
        r.push(1.0);
        d.push(m - m_0);
    }
    let rho = match r.len() {
        // As the paper has it, for any h.
        1 => vec![0.5],
        _ => weights(&r, -h),
    };
    let curve = rho.iter().zip(d).fold(m_0, |sum, (rho, d)| sum + *rho * d);
    to.s / from.s * x + to.a * (1.0 - from.a * to.s / (from.s * to.a)) * curve
}

/// The rho of `r`: sum_k rho_k r_k^(j-1) = b_j for j from 1, with b_j = j! phi_(j+1)(hh) hh / B(hh), where
/// phi_1(hh) = (e^hh - 1) / hh and phi_(j+1)(hh) = (phi_j(hh) - 1 / j!) / hh.
fn weights(r: &[f64], hh: f64) -> Vec<f64> {
    let b_h = libm::expm1(hh);
    let mut phi = b_h / hh;
    let mut factorial = 1.0;
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let mut powers = vec![1.0; r.len()];
    for j in 1..=r.len() {
        factorial *= j as f64;
        phi = (phi - 1.0 / factorial) / hh;
        rows.push(powers.iter().copied().chain([factorial * phi * hh / b_h]).collect());
        powers.iter_mut().zip(r).for_each(|(power, r)| *power *= r);
    }
    solve(rows)
}

/// Gauss: the solution of at most three equations, each its coefficients and its right side.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for pivot in 0..n {
        let best = (pivot..n).max_by(|i, j| rows[*i][pivot].abs().total_cmp(&rows[*j][pivot].abs()));
        rows.swap(pivot, best.unwrap_or(pivot));
        let by = rows[pivot].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(other, _)| *other != pivot) {
            let factor = row[pivot] / by[pivot];
            row.iter_mut().zip(&by).for_each(|(value, by)| *value -= factor * by);
        }
    }
    (0..n).map(|i| rows[i][n] / rows[i][i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved() {
        // x + y + z = 6, 2 y + 5 z = 19, 2 x + 5 y - z = 9
        let rows = vec![vec![1.0, 1.0, 1.0, 6.0], vec![0.0, 2.0, 5.0, 19.0], vec![2.0, 5.0, -1.0, 9.0]];
        for (actual, expected) in solve(rows).iter().zip([1.0, 2.0, 3.0]) {
            assert!((actual - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn weights_tend_to_those_of_polynomials_as_steps_shrink() {
        // Nodes -1 and 1: x0 is a parabola through three equidistant points, integrated over the last interval.
        for (actual, expected) in weights(&[-1.0, 1.0], -1e-3).iter().zip([1.0 / 12.0, 5.0 / 12.0]) {
            assert!((actual - expected).abs() < 1e-3);
        }
    }
}
