//! DDIM: Song, Meng & Ermon 2021, "Denoising diffusion implicit models", equations 12 and 16.
//!
//! 1. sd = eta sqrt((1 - abar_prev) / (1 - abar_t)) sqrt(1 - abar_t / abar_prev)
//! 2. x  = sqrt(abar_prev) x0 + sqrt(1 - abar_prev - sd^2) eps + sd z
//!
//! eta = 0 is deterministic, eta = 1 is DDPM with its smaller variance.

use serde::{Deserialize, Serialize};

use crate::levels::{NoiseLevel, NoiseSchedule, Point};
use crate::step::{Combination, Evaluation};

/// Which noise level a DDIM step moves x to. The two agree wherever N divides T.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreviousTimestep {
    /// That of t - T/N (integer division) whatever the spacing, as in diffusers, whose pictures people compare with.
    ///
    /// Where N does not divide T the model is then told less noise than there is: at 256 of 1000 steps, trailing,
    /// Gaussian data of standard deviation 0.5 comes out at 0.58, fine detail of 0.05 at 0.10.
    #[default]
    Stride,
    /// That of the timestep visited next, as in the paper.
    Next,
}

/// The noise that a DDIM step keeps where x0 was brought back into range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DdimNoise {
    /// The eps that leads from x to the x0 in range (`use_clipped_model_output` in diffusers): x stays at its noise level.
    #[default]
    OfX0,
    /// That of the model's output, as diffusers does unless told otherwise.
    OfOutput,
}

/// `eta` lies in [0, 1]; `stride` is T / N, of all N steps even where not all are taken.
///
/// Before timestep 0, abar is 1 if `set_alpha_to_one`, so that the last step lands on x0, and that of timestep 0
/// otherwise.
pub(crate) fn evaluations(
    schedule: &NoiseSchedule,
    timesteps: &[u32],
    previous: PreviousTimestep,
    stride: u32,
    eta: f64,
    set_alpha_to_one: bool,
    noise: DdimNoise,
) -> Vec<Evaluation> {
    let final_abar = if set_alpha_to_one { 1.0 } else { schedule.abar(0) };
    timesteps
        .iter()
        .enumerate()
        .map(|(i, &t)| {
            let prev = match previous {
                PreviousTimestep::Stride => t.checked_sub(stride),
                PreviousTimestep::Next => timesteps.get(i + 1).copied(),
            };
            let abar = schedule.abar(t);
            let abar_prev = prev.map_or(final_abar, |prev| schedule.abar(prev));
            let point = Point { timestep: f64::from(t), level: NoiseLevel::of_abar(abar) };
            // 1.
            let sd = eta * ((1.0 - abar_prev) / (1.0 - abar) * (1.0 - abar / abar_prev)).sqrt();
            // 2.
            let eps_scale = (1.0 - abar_prev - sd * sd).max(0.0).sqrt();
            let x0 = abar_prev.sqrt() * Combination::X0;
            match noise {
                DdimNoise::OfX0 => Evaluation::new(point, x0 + eps_scale * point.level.eps()),
                DdimNoise::OfOutput => {
                    Evaluation::new(point, x0 + eps_scale * Combination::EPS).with_eps_of_output()
                }
            }
            .with_noise(sd)
        })
        .collect()
}
