//! DDPM: Ho, Jain & Abbeel 2020, "Denoising diffusion probabilistic models", equations 6 and 7.
//!
//! With alpha = abar_t / abar_prev and beta = 1 - alpha of the step actually taken:
//!
//! 1. mean = sqrt(abar_prev) beta / (1 - abar_t) x0 + sqrt(alpha) (1 - abar_prev) / (1 - abar_t) x
//! 2. variance = (1 - abar_prev) / (1 - abar_t) beta  (fixed small)  or  beta  (fixed large)
//! 3. x = mean + sqrt(variance) z, without z at the last step

use serde::{Deserialize, Serialize};

use crate::schedule::NoiseSchedule;
use crate::update::Update;

/// The variance of a DDPM step; section 3.2 of the paper finds little between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// That of the posterior given x0: right when the data is a single point.
    #[default]
    FixedSmall,
    /// beta: right when the data is unit normal.
    FixedLarge,
}

/// The update of each step; the previous timestep is the next in the list, and x0 itself (abar = 1) after the last.
pub(crate) fn updates(schedule: &NoiseSchedule, timesteps: &[u32], variance: Variance) -> Vec<Update> {
    timesteps
        .iter()
        .enumerate()
        .map(|(i, &t)| {
            let prev = timesteps.get(i + 1).copied();
            let abar = schedule.abar(t);
            let abar_prev = prev.map_or(1.0, |prev| schedule.abar(prev));
            let alpha = abar / abar_prev;
            let beta = 1.0 - alpha;
            // 1.
            let x0 = abar_prev.sqrt() * beta / (1.0 - abar);
            let x = alpha.sqrt() * (1.0 - abar_prev) / (1.0 - abar);
            // 2.
            let variance = match variance {
                Variance::FixedSmall => (1.0 - abar_prev) / (1.0 - abar) * beta,
                Variance::FixedLarge => beta,
            };
            // 3.
            let z = if prev.is_some() { variance.sqrt() } else { 0.0 };
            Update { x: x as f32, x0: x0 as f32, z: z as f32 }
        })
        .collect()
}
