//! DDPM: Ho, Jain & Abbeel 2020, "Denoising diffusion probabilistic models", equations 6 and 7; learned variances: Nichol &
//! Dhariwal 2021, "Improved denoising diffusion probabilistic models", equation 15.
//!
//! With alpha = abar_t / abar_prev and beta = 1 - alpha of the step actually taken:
//!
//! 1. mean = sqrt(abar_prev) beta / (1 - abar_t) x0 + sqrt(alpha) (1 - abar_prev) / (1 - abar_t) x
//! 2. variance = (1 - abar_prev) / (1 - abar_t) beta  (fixed small)  or  beta  (fixed large)  or what the model says of v:
//!    v itself  (learned)  or  exp(f ln large + (1 - f) ln small), f = (v + 1) / 2  (learned range)
//! 3. x = mean + sqrt(variance) z, without z at the last step

use serde::{Deserialize, Serialize};

use crate::levels::{NoiseLevel, NoiseSchedule, Point};
use crate::step::{Combination, Evaluation, FreshNoise};

/// The variance of a DDPM step; section 3.2 of the paper finds little between the fixed ones.
///
/// Names that differ only in taking the logarithm on the way (`fixed_small_log`, `fixed_large_log`) are the same here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// That of the posterior given x0: right when the data is a single point.
    #[default]
    #[serde(alias = "fixed_small_log")]
    FixedSmall,
    /// beta: right when the data is unit normal.
    #[serde(alias = "fixed_large_log")]
    FixedLarge,
    /// What the model gives for each element, besides its prediction.
    Learned,
    /// Between the fixed ones on a logarithmic scale: at 1 large, at -1 small, as the model says for each element.
    LearnedRange,
}

impl Variance {
    /// Whether the model's output has as many elements again, for the variance.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::Learned | Self::LearnedRange)
    }
}

/// Keeps the logarithm of a variance finite.
const LEAST_VARIANCE: f64 = 1e-20;

/// The previous timestep is the next in the list, and x0 itself (abar = 1) after the last.
pub(crate) fn evaluations(
    schedule: &NoiseSchedule,
    timesteps: &[u32],
    variance: Variance,
) -> Vec<Evaluation> {
    timesteps
        .iter()
        .enumerate()
        .map(|(i, &t)| {
            let prev = timesteps.get(i + 1).copied();
            let abar = schedule.abar(t);
            let abar_prev = prev.map_or(1.0, |prev| schedule.abar(prev));
            let point = Point { timestep: f64::from(t), level: NoiseLevel::of_abar(abar) };
            let alpha = abar / abar_prev;
            let beta = 1.0 - alpha;
            // 1.
            let x0 = abar_prev.sqrt() * beta / (1.0 - abar);
            let x = alpha.sqrt() * (1.0 - abar_prev) / (1.0 - abar);
            let mean = Evaluation::new(point, x * Combination::X + x0 * Combination::X0);
            if prev.is_none() {
                return mean;
            }
            // 2. and 3.
            let small = (1.0 - abar_prev) / (1.0 - abar) * beta;
            let noise = match variance {
                Variance::FixedSmall => FreshNoise::Scaled(small.sqrt()),
                Variance::FixedLarge => FreshNoise::Scaled(beta.sqrt()),
                Variance::Learned => FreshNoise::Learned,
                Variance::LearnedRange => FreshNoise::LearnedRange {
                    ln_small: libm::log(small.max(LEAST_VARIANCE)),
                    ln_large: libm::log(beta),
                },
            };
            Evaluation { noise, ..mean }
        })
        .collect()
}

/// The standard deviations of noise of a learned variance, in place of what the model says of it.
pub(crate) fn standard_deviations(noise: FreshNoise, variance: &mut [f32]) {
    match noise {
        FreshNoise::Scaled(_) => {}
        FreshNoise::Learned => {
            for v in variance.iter_mut() {
                *v = v.sqrt();
            }
        }
        FreshNoise::LearnedRange { ln_small, ln_large } => {
            // exp(f ln large + (1 - f) ln small) under the root.
            let (middle, half) = ((ln_large + ln_small) as f32 / 4.0, (ln_large - ln_small) as f32 / 4.0);
            for v in variance.iter_mut() {
                *v = libm::expf(middle + half * *v);
            }
        }
    }
}
