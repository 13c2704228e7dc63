//! The noise levels and the preconditioning of EDM: Karras et al. 2022, "Elucidating the design space of diffusion-based
//! generative models", table 1, last column.
//!
//! The network F sees c_in x and c_noise, and x0 = c_skip x + c_out F, with
//!
//! - c_skip  = sd^2 / (sigma^2 + sd^2)
//! - c_out   = sigma sd / sqrt(sigma^2 + sd^2)
//! - c_in    = 1 / sqrt(sigma^2 + sd^2)
//! - c_noise = ln(sigma) / 4
//!
//! With Heun this is the paper's algorithm 1, with Euler and DPM-Solver++ what "EDM Euler" and "EDM DPM++" name elsewhere.

use super::{NoiseLevel, Point, karras};
use crate::step::{Conversion, PredictionType};

/// The range of sigma and the data's spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdmLevels {
    /// The least noise, above 0.
    pub sigma_min: f64,
    /// The most noise, above `sigma_min`.
    pub sigma_max: f64,
    /// sd, the standard deviation of the data; above 0.
    pub sigma_data: f64,
    /// The exponent of the spacing, above 0: larger spends more steps on little noise.
    pub rho: f64,
}

impl Default for EdmLevels {
    /// The paper's, for images.
    fn default() -> Self {
        Self { sigma_min: 0.002, sigma_max: 80.0, sigma_data: 0.5, rho: karras::RHO }
    }
}

impl EdmLevels {
    pub(crate) fn is_valid(&self) -> bool {
        let all = [self.sigma_min, self.sigma_max, self.sigma_data, self.rho];
        all.iter().all(|value| value.is_finite() && *value > 0.0) && self.sigma_min < self.sigma_max
    }

    pub(crate) fn points(&self, steps: u32) -> Vec<Point> {
        let point = |sigma: f64| {
            let c_in = 1.0 / sigma.hypot(self.sigma_data);
            Point { timestep: libm::log(sigma) / 4.0, level: NoiseLevel { a: c_in, s: sigma * c_in } }
        };
        karras::spaced(self.sigma_min, self.sigma_max, self.rho, steps).map(point).collect()
    }

    /// How x0 is read from the output of a preconditioned network at `level`. Models that call their output v have the
    /// opposite sign of F; those that call it x0 are not preconditioned; there is no flow.
    pub(crate) fn conversion(&self, prediction: PredictionType, level: NoiseLevel) -> Option<Conversion> {
        let NoiseLevel { a: c_in, .. } = level;
        let sigma = level.sigma();
        // On the model's input c_in x rather than on x.
        let skip = self.sigma_data.powi(2) * c_in;
        let c_out = sigma * self.sigma_data * c_in;
        match prediction {
            PredictionType::Epsilon => Some(Conversion::of_x0(skip, c_out, level)),
            PredictionType::VPrediction => Some(Conversion::of_x0(skip, -c_out, level)),
            PredictionType::Sample => Some(prediction.at(level)),
            PredictionType::FlowPrediction => None,
        }
    }
}
