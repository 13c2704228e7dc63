//! Noise-conditioning augmentation: Ho et al. 2022 (Cascaded diffusion models), section 4; Saharia et al. 2022 (Imagen),
//! section 2.4.
//!
//! A super-resolution model is trained on low-resolution pictures noised at a random level that it is told, so that the
//! artefacts of the stage before do not mislead it. At level s, with u = round(s (T - 1)):
//! picture <- sqrt(abar_u) picture + sqrt(1 - abar_u) eps.

use super::{NoiseSource, Stream};
use crate::levels::NoiseSchedule;

/// The noise level is outside [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("noise_level must be in [0, 1], not {0}")]
pub struct AugmentationError(pub f32);

/// u: the timestep of `train_timesteps` whose noise is that of `level`, which lies in [0, 1].
pub fn augmentation_timestep(level: f32, train_timesteps: u32) -> u32 {
    (f64::from(level) * f64::from(train_timesteps - 1)).round_ties_even() as u32
}

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
    augment_at(picture, augmentation_timestep(level, schedule.train_timesteps()), schedule, noise);
    Ok(())
}

/// The same at the timestep u, of which 0 is some noise too.
///
/// # Panics
/// When `timestep` is not below the length of `schedule`.
pub fn augment_at(picture: &mut [f32], timestep: u32, schedule: &NoiseSchedule, noise: &NoiseSource) {
    let abar = schedule.abar(timestep);
    let (a, s) = (abar.sqrt() as f32, (1.0 - abar).sqrt() as f32);
    for pixel in picture.iter_mut() {
        *pixel *= a;
    }
    noise.add_normal(Stream::Augmentation, 0, s, picture);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::BetaSchedule;

    fn schedule() -> NoiseSchedule {
        NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap()
    }

    #[test]
    fn level_zero_is_the_picture_itself() {
        let mut picture = [0.25, -0.5, 1.0];
        augment(&mut picture, 0.0, &schedule(), &NoiseSource::new(1, 0, 1)).unwrap();
        assert_eq!(picture, [0.25, -0.5, 1.0]);
    }

    #[test]
    fn signal_and_noise_are_mixed_as_at_that_timestep() {
        let noise = NoiseSource::new(1, 0, 1);
        let mut eps = [0.0; 50];
        noise.fill_normal(Stream::Augmentation, 0, &mut eps);
        // 0.1 of 999 is 99.9; 0.5 is 499.5, which rounds to even.
        for (level, timestep) in [(0.1, 100), (0.5, 500), (1.0, 999)] {
            let mut picture = [0.75; 50];
            augment(&mut picture, level, &schedule(), &noise).unwrap();
            let abar = schedule().abar(timestep);
            for (pixel, eps) in picture.iter().zip(eps) {
                let expected = abar.sqrt() * 0.75 + (1.0 - abar).sqrt() * f64::from(eps);
                assert!((f64::from(*pixel) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn levels_out_of_range_are_refused() {
        for level in [-0.1, 1.5, f32::NAN] {
            assert!(augment(&mut [0.0], level, &schedule(), &NoiseSource::new(1, 0, 1)).is_err());
        }
    }
}
