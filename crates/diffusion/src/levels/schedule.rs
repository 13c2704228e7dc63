//! Noise schedules: how much signal is left at each timestep of training.
//!
//! Linear: Ho et al. 2020 (DDPM), section 4. Cosine: Nichol & Dhariwal 2021 (Improved DDPM), equation 17. Scaled linear:
//! Rombach et al. 2022 (latent diffusion). Zero terminal SNR: Lin et al. 2024 (Common diffusion noise schedules and sample
//! steps are flawed), algorithm 1. Everything is computed in `f64`: at the noisy end of the cosine schedule abar is about
//! 2e-9, and products of a thousand factors should not add their rounding to it.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

/// The shape of beta over the T timesteps of training, named as in model packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// beta rises linearly; 1e-4 to 0.02 unless said otherwise.
    Linear,
    /// The square root of beta rises linearly; 0.00085 to 0.012 unless said otherwise.
    ScaledLinear,
    /// abar follows a squared cosine, beta capped at 0.999. Takes no end points.
    SquaredcosCapV2,
    /// beta rises along a sigmoid; 1e-4 to 0.02 unless said otherwise.
    Sigmoid,
}

impl BetaSchedule {
    /// The end points (`beta_start`, `beta_end`) of the papers; the cosine schedule ignores them.
    pub fn default_betas(self) -> (f64, f64) {
        match self {
            Self::ScaledLinear => (0.000_85, 0.012),
            Self::Linear | Self::SquaredcosCapV2 | Self::Sigmoid => (1e-4, 0.02),
        }
    }

    /// beta at timestep `t` of `train_timesteps`.
    fn beta(self, t: u32, train_timesteps: u32, start: f64, end: f64) -> f64 {
        let between = |from: f64, to: f64| match train_timesteps {
            1 => from,
            _ => from + (to - from) * f64::from(t) / f64::from(train_timesteps - 1),
        };
        match self {
            Self::Linear => between(start, end),
            Self::ScaledLinear => between(start.sqrt(), end.sqrt()).powi(2),
            Self::Sigmoid => (end - start) / (1.0 + libm::exp(-between(-6.0, 6.0))) + start,
            Self::SquaredcosCapV2 => {
                let abar = |t: u32| {
                    let cos =
                        libm::cos((f64::from(t) / f64::from(train_timesteps) + 0.008) / 1.008 * FRAC_PI_2);
                    cos * cos
                };
                (1.0 - abar(t + 1) / abar(t)).min(0.999)
            }
        }
    }
}

/// abar at every timestep of training.
///
/// abar falls strictly from just under 1 (t = 0) to nearly 0 (t = T - 1), or to 0 itself with zero terminal SNR.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    abar: Vec<f64>,
}

/// Why a noise schedule cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// There must be something to sample.
    #[error("train_timesteps must be between 1 and {max}, not {given}", max = NoiseSchedule::MAX_TIMESTEPS)]
    TrainTimesteps {
        /// What was asked for.
        given: u32,
    },
    /// The end points must satisfy 0 < `beta_start` <= `beta_end` < 1.
    #[error("betas must satisfy 0 < beta_start <= beta_end < 1, not {start} and {end}")]
    Betas {
        /// `beta_start`.
        start: f64,
        /// `beta_end`.
        end: f64,
    },
}

impl NoiseSchedule {
    /// More timesteps than any published model has; a bound on what a package file can make us allocate.
    pub const MAX_TIMESTEPS: u32 = 1_000_000;

    /// The schedule with the papers' end points, over `train_timesteps` (T, usually 1000).
    pub fn new(shape: BetaSchedule, train_timesteps: u32) -> Result<Self, ScheduleError> {
        let (start, end) = shape.default_betas();
        Self::with_betas(shape, train_timesteps, start, end)
    }

    /// The schedule between `beta_start` and `beta_end`, both in (0, 1).
    pub fn with_betas(
        shape: BetaSchedule,
        train_timesteps: u32,
        beta_start: f64,
        beta_end: f64,
    ) -> Result<Self, ScheduleError> {
        if !(1..=Self::MAX_TIMESTEPS).contains(&train_timesteps) {
            return Err(ScheduleError::TrainTimesteps { given: train_timesteps });
        }
        if !(0.0 < beta_start && beta_start <= beta_end && beta_end < 1.0) {
            return Err(ScheduleError::Betas { start: beta_start, end: beta_end });
        }
        let betas = (0..train_timesteps).map(|t| shape.beta(t, train_timesteps, beta_start, beta_end));
        let abar = betas.scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        });
        Ok(Self { abar: abar.collect() })
    }

    /// The same schedule with its noisy end moved to pure noise: sqrt(abar) is shifted and scaled so that it is 0 at
    /// T - 1 and unchanged at 0.
    ///
    /// There eps says nothing of x0: only models that predict v or x0 can be sampled from the last timestep.
    #[must_use]
    pub fn with_zero_terminal_snr(mut self) -> Self {
        let (first, last) = (self.abar(0).sqrt(), self.abar(self.train_timesteps() - 1).sqrt());
        // A single timestep is its own two ends.
        let scale = if first > last { first / (first - last) } else { 0.0 };
        for abar in &mut self.abar {
            *abar = ((abar.sqrt() - last) * scale).powi(2);
        }
        self
    }

    /// T, the number of timesteps of training.
    pub fn train_timesteps(&self) -> u32 {
        self.abar.len() as u32
    }

    /// abar at timestep `t`.
    ///
    /// # Panics
    /// When `t` is not below [`Self::train_timesteps`].
    pub fn abar(&self, t: u32) -> f64 {
        self.abar[t as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [BetaSchedule; 4] = [
        BetaSchedule::Linear,
        BetaSchedule::ScaledLinear,
        BetaSchedule::SquaredcosCapV2,
        BetaSchedule::Sigmoid,
    ];

    fn close(actual: f64, expected: f64) {
        assert!((actual / expected - 1.0).abs() < 1e-9, "{actual} is not {expected}");
    }

    #[test]
    fn names_are_those_of_model_packages() {
        let names = ALL.map(|shape| serde_json::to_value(shape).unwrap());
        assert_eq!(names, ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"]);
    }

    #[test]
    fn the_first_beta_is_where_each_shape_starts() {
        let first = |shape| 1.0 - NoiseSchedule::new(shape, 1000).unwrap().abar(0);
        close(first(BetaSchedule::Linear), 1e-4);
        close(first(BetaSchedule::ScaledLinear), 0.000_85);
        close(first(BetaSchedule::Sigmoid), 1e-4 + 0.0199 / (1.0 + 6_f64.exp()));
        // 1 - f(1/1000) / f(0)
        let f = |t: f64| ((t + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
        close(first(BetaSchedule::SquaredcosCapV2), 1.0 - f(0.001) / f(0.0));
    }

    #[test]
    fn cosine_products_telescope_until_the_cap() {
        let schedule = NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap();
        let f = |t: f64| ((t + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
        for t in [0_u32, 99, 499, 900, 998] {
            let expected = f(f64::from(t + 1) / 1000.0) / f(0.0);
            assert!((schedule.abar(t) / expected - 1.0).abs() < 1e-6);
        }
        // Only the last beta meets the cap: f(1) is zero.
        close(schedule.abar(999) / schedule.abar(998), 0.001);
    }

    #[test]
    fn abar_falls_strictly_within_zero_and_one() {
        for shape in ALL {
            let schedule = NoiseSchedule::new(shape, 1000).unwrap();
            let abar: Vec<f64> = (0..1000).map(|t| schedule.abar(t)).collect();
            assert!(abar.windows(2).all(|pair| pair[1] < pair[0]), "{shape:?}");
            assert!(abar[0] < 1.0 && abar[999] > 0.0, "{shape:?}");
        }
    }

    #[test]
    fn zero_terminal_snr_moves_only_the_noisy_end() {
        for shape in ALL {
            let before = NoiseSchedule::new(shape, 1000).unwrap();
            let after = before.clone().with_zero_terminal_snr();
            assert_eq!(after.abar(999), 0.0);
            close(after.abar(0), before.abar(0));
            assert!((1..1000).all(|t| after.abar(t) < after.abar(t - 1) && after.abar(t) < before.abar(t)));
        }
        let single = NoiseSchedule::new(BetaSchedule::Linear, 1).unwrap().with_zero_terminal_snr();
        assert_eq!(single.abar(0), 0.0);
    }

    #[test]
    fn bad_settings_are_refused() {
        let new = NoiseSchedule::with_betas;
        assert_eq!(
            NoiseSchedule::new(BetaSchedule::Linear, 0),
            Err(ScheduleError::TrainTimesteps { given: 0 })
        );
        assert!(new(BetaSchedule::Linear, 10, 0.0, 0.02).is_err());
        assert!(new(BetaSchedule::Linear, 10, 0.03, 0.02).is_err());
        assert!(new(BetaSchedule::Linear, 10, 0.01, 1.0).is_err());
        assert!(new(BetaSchedule::Linear, 10, f64::NAN, 0.02).is_err());
    }
}
