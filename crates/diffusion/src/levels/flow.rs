//! The noise levels of flow matching: Lipman et al. 2023 ("Flow matching for generative modeling"), and the shift of Esser
//! et al. 2024 ("Scaling rectified flow transformers for high-resolution image synthesis", SD3), section 5.3.2.
//!
//! x = (1 - sigma) x0 + sigma eps, and the model is told sigma T. A larger picture hides more of the same noise, so sigma
//! is shifted towards 1: sigma <- shift sigma / (1 + (shift - 1) sigma).

use super::{Layout, NoiseLevel, Point};

/// How sigma is shifted towards noise, and what is shifted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FlowShift {
    /// By a constant, above 0 (SD3: 3): with Euler and Heun N values from 1 down to the shifted 1 / T, then shifted, as SD3 is
    /// sampled.
    Static(f64),
    /// By e^mu: with Euler and Heun N values from 1 down to 1 / N, then shifted, as FLUX is sampled; or down to 1 / T, as
    /// SD3 is.
    Dynamic {
        /// Any finite number; with FLUX on the line through 0.5 at 256 tokens of 16 x 16 pixels and 1.15 at 4096.
        mu: f64,
        /// Whether the last value before the shift is 1 / T.
        to_last_timestep: bool,
    },
}

impl FlowShift {
    pub(crate) fn is_valid(&self) -> bool {
        self.factor().is_finite() && self.factor() > 0.0
    }

    fn factor(&self) -> f64 {
        match *self {
            Self::Static(shift) => shift,
            Self::Dynamic { mu, .. } => libm::exp(mu),
        }
    }

    fn shifted(&self, sigma: f64) -> f64 {
        let factor = self.factor();
        factor * sigma / (1.0 + (factor - 1.0) * sigma)
    }

    pub(crate) fn points(&self, train_timesteps: u32, steps: u32, layout: Layout) -> Vec<Point> {
        match layout {
            Layout::SingleStep => self.evenly(train_timesteps, steps),
            Layout::DpmSolver | Layout::UniPc => self.multistep(train_timesteps, steps, layout),
        }
    }

    /// From 1 down to a least value.
    fn evenly(&self, train_timesteps: u32, steps: u32) -> Vec<Point> {
        let shifted = |sigma| self.shifted(sigma);
        let total = f64::from(train_timesteps);
        let least = match self {
            Self::Static(_) => shifted(1.0 / total),
            Self::Dynamic { to_last_timestep: true, .. } => 1.0 / total,
            Self::Dynamic { .. } => 1.0 / f64::from(steps),
        };
        let point = |i| {
            let way = if steps == 1 { 0.0 } else { f64::from(i) / f64::from(steps - 1) };
            let sigma = shifted(1.0 + way * (least - 1.0));
            Point { timestep: sigma * total, level: NoiseLevel { a: 1.0 - sigma, s: sigma } }
        };
        (0..steps).map(point).collect()
    }

    /// As `use_flow_sigmas` of diffusers lays them out: N of the N + 1 values from 1 to 1 / T (UniPC), or from 1 - 1 / T to 0
    /// (DPM-Solver++). The model is told whole timesteps.
    fn multistep(&self, train_timesteps: u32, steps: u32, layout: Layout) -> Vec<Point> {
        let total = f64::from(train_timesteps);
        let stride = (1.0 / total - 1.0) / f64::from(steps);
        let point = |i: u32| {
            let sigma = match layout {
                Layout::DpmSolver => self.shifted(1.0 - (f64::from(steps - i) * stride + 1.0)),
                _ => self.shifted(f64::from(i) * stride + 1.0),
            };
            // lambda of pure noise is infinite.
            let sigma = sigma.min(1.0 - LEAST_SIGNAL);
            Point { timestep: (sigma * total).floor(), level: NoiseLevel { a: 1.0 - sigma, s: sigma } }
        };
        (0..steps).map(point).collect()
    }
}

/// What multistep solvers begin with in place of none.
const LEAST_SIGNAL: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigma_falls_from_one_and_a_shift_keeps_it_high() {
        for (shift, third) in [(FlowShift::Static(1.0), 0.5005), (FlowShift::Static(3.0), 0.751_872)] {
            let points = shift.points(1000, 3, Layout::SingleStep);
            assert_eq!((points[0].level, points[0].timestep), (NoiseLevel { a: 0.0, s: 1.0 }, 1000.0));
            assert!((points[1].level.s - third).abs() < 1e-3, "{points:?}");
        }
        let flux = FlowShift::Dynamic { mu: 0.0, to_last_timestep: false };
        let sigmas = flux.points(1000, 4, Layout::SingleStep);
        assert_eq!(sigmas.iter().map(|point| point.level.s).collect::<Vec<_>>(), [1.0, 0.75, 0.5, 0.25]);
    }
}
