//! Noise-conditioning augmentation: Ho et al. 2022 (Cascaded diffusion models), section 4; Saharia et al. 2022 (Imagen),
//! section 2.4.
//!
//! A super-resolution model is trained on low-resolution pictures noised at a random level that it is told, so that the
//! artefacts of the stage before do not mislead it. At level s, with u = round(s (T - 1)):
//! picture <- sqrt(abar_u) picture + sqrt(1 - abar_u) eps.

use crate::noise::{NoiseSource, Stream};
use crate::schedule::NoiseSchedule;

/// The noise level is outside [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("noise_level must be in [0, 1], not {0}")]
pub struct AugmentationError(pub f32);

/// Elements noised at a time.
const CHUNK: usize = 1024;

/// Noises `picture` (already upsampled, pixels in [-1, 1]) in place, once a request.
///
/// `level` lies in [0, 1], as a fraction of the training timesteps of `schedule`; 0 means no noise at all.
pub fn augment(
    picture: &mut [f32],
    level: f32,
    schedule: &NoiseSchedule,
    noise: &NoiseSource,
) -> Result<(), AugmentationError> {
    if !(0.0..=1.0).contains(&level) {
        return Err(AugmentationError(level));
    }
    if level == 0.0 {
        return Ok(());
    }
    let last = f64::from(schedule.train_timesteps() - 1);
    let abar = schedule.abar((f64::from(level) * last).round_ties_even() as u32);
    let (a, s) = (abar.sqrt() as f32, (1.0 - abar).sqrt() as f32);
    let mut eps = [0.0; CHUNK];
    for (chunk, pixels) in picture.chunks_mut(CHUNK).enumerate() {
        let eps = &mut eps[..pixels.len()];
        noise.fill_normal(Stream::Augmentation, 0, chunk * CHUNK, eps);
        for (pixel, eps) in pixels.iter_mut().zip(eps) {
            *pixel = a * *pixel + s * *eps;
        }
    }
    Ok(())
}
