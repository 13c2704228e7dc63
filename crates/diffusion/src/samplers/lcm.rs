//! Latent consistency models: Luo et al. 2023, "Latent consistency models: synthesizing high-resolution images with
//! few-step inference", section 4.1 and algorithm 3.
//!
//! With c_skip = sd^2 / (u^2 + sd^2), c_out = u / sqrt(u^2 + sd^2), u = 10 t, sd = 0.5:
//!
//! 1. f = c_skip x + c_out x0
//! 2. x <- sqrt(abar_next) f + sqrt(1 - abar_next) z, or f itself at the last step
//!
//! The model is distilled on every k-th timestep, so only these are visited: N of the O there are, or, from a picture, of the
//! floor(O strength) with the least noise. A sampler that does not spread its steps so skips the first of the N.

use crate::levels::{NoiseLevel, NoiseSchedule, Point};
use crate::step::{Combination, Evaluation};

const SIGMA_DATA: f64 = 0.5;
const TIMESTEP_SCALING: f64 = 10.0;

/// The `steps` timesteps visited, of the `distilled` with the least noise among the `original_steps` that the model was
/// distilled on: T // O k - 1 for k from there down. `None` unless 1 <= N <= distilled <= O <= T.
pub(crate) fn timesteps(
    train_timesteps: u32,
    steps: u32,
    original_steps: u32,
    distilled: u32,
) -> Option<Vec<u32>> {
    if original_steps > train_timesteps || distilled > original_steps || !(1..=distilled).contains(&steps) {
        return None;
    }
    let stride = train_timesteps / original_steps;
    let share = f64::from(distilled) / f64::from(steps);
    Some((0..steps).map(|i| (distilled - (f64::from(i) * share) as u32) * stride - 1).collect())
}

pub(crate) fn evaluations(schedule: &NoiseSchedule, timesteps: &[u32]) -> Vec<Evaluation> {
    timesteps
        .iter()
        .enumerate()
        .map(|(i, &t)| {
            let point = Point { timestep: f64::from(t), level: NoiseLevel::of_abar(schedule.abar(t)) };
            // 1.
            let u = TIMESTEP_SCALING * f64::from(t);
            let c_skip = (SIGMA_DATA / u.hypot(SIGMA_DATA)).powi(2);
            let c_out = u / u.hypot(SIGMA_DATA);
            let f = c_skip * Combination::X + c_out * Combination::X0;
            // 2.
            let next =
                timesteps.get(i + 1).map_or(NoiseLevel::CLEAN, |&t| NoiseLevel::of_abar(schedule.abar(t)));
            Evaluation::new(point, next.a * f).with_noise(next.s)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::timesteps;

    #[test]
    fn only_distilled_timesteps_are_visited() {
        assert_eq!(timesteps(1000, 4, 50, 50).unwrap(), [999, 759, 499, 259]);
        assert_eq!(timesteps(1000, 1, 50, 50).unwrap(), [999]);
        assert_eq!(timesteps(1000, 4, 50, 25).unwrap(), [499, 379, 259, 139]);
        assert_eq!(timesteps(1000, 51, 50, 50), None);
        assert_eq!(timesteps(1000, 26, 50, 25), None);
        assert_eq!(timesteps(1000, 1, 50, 0), None);
        assert_eq!(timesteps(1000, 1, 1001, 1001), None);
        assert_eq!(timesteps(1000, 0, 50, 50), None);
    }
}
