//! Noise levels in sigma over a training schedule: interpolation both ways, and the spacing of Karras et al. 2022
//! ("Elucidating the design space of diffusion-based generative models", EDM), equation 5.

use super::NoiseSchedule;

/// sigma at every timestep of training, rising.
pub(crate) struct Sigmas(Vec<f64>);

impl Sigmas {
    /// Stands for an abar of 0, where sigma would be infinite.
    const LEAST_ABAR: f64 = 1.0 / (1 << 24) as f64;

    pub(crate) fn of(schedule: &NoiseSchedule) -> Self {
        let sigma = |t| {
            let abar = schedule.abar(t);
            let abar = if abar > 0.0 { abar } else { Self::LEAST_ABAR };
            ((1.0 - abar) / abar).sqrt()
        };
        Self((0..schedule.train_timesteps()).map(sigma).collect())
    }

    /// Both ends: at timestep 0 and at T - 1.
    pub(crate) fn ends(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }

    /// sigma between two timesteps, linearly.
    pub(crate) fn at(&self, timestep: f64) -> f64 {
        let low = timestep as usize;
        let high = (low + 1).min(self.0.len() - 1);
        self.0[low] + (self.0[high] - self.0[low]) * timestep.fract()
    }

    /// The timestep of a sigma, linearly in its logarithm.
    pub(crate) fn timestep(&self, sigma: f64) -> f64 {
        let low = self.0.partition_point(|known| *known <= sigma).saturating_sub(1);
        let low = low.min(self.0.len().saturating_sub(2));
        let high = (low + 1).min(self.0.len() - 1);
        let (from, to) = (libm::log(self.0[low]), libm::log(self.0[high]));
        let way = if high == low { 0.0 } else { (libm::log(sigma) - from) / (to - from) };
        low as f64 + way.clamp(0.0, 1.0)
    }
}

/// The rho of the paper's table 1.
pub(crate) const RHO: f64 = 7.0;

/// `steps` sigmas from `max` down to `min`, evenly spaced in sigma^(1 / rho).
pub(crate) fn spaced(min: f64, max: f64, rho: f64, steps: u32) -> impl Iterator<Item = f64> {
    let root = move |sigma: f64| libm::pow(sigma, 1.0 / rho);
    (0..steps).map(move |i| {
        let way = if steps == 1 { 0.0 } else { f64::from(i) / f64::from(steps - 1) };
        libm::pow(root(max) + way * (root(min) - root(max)), rho)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::BetaSchedule;

    #[test]
    fn the_spacing_is_that_of_the_paper() {
        let sigmas: Vec<f64> = spaced(0.002, 80.0, RHO, 5).collect();
        // Equation 5 in Python, f64.
        let expected = [80.0, 17.527_83, 2.515_21, 0.169_75, 0.002];
        for (sigma, expected) in sigmas.iter().zip(expected) {
            assert!((sigma / expected - 1.0).abs() < 1e-4, "{sigmas:?}");
        }
        assert_eq!(spaced(0.1, 10.0, RHO, 1).map(f64::round).collect::<Vec<_>>(), [10.0]);
    }

    #[test]
    fn timesteps_and_sigmas_are_each_others_inverse() {
        let sigmas = Sigmas::of(&NoiseSchedule::new(BetaSchedule::ScaledLinear, 1000).unwrap());
        for t in [0.0, 1.0, 499.0, 998.0, 999.0] {
            assert!((sigmas.timestep(sigmas.at(t)) - t).abs() < 1e-6, "{t}");
        }
        assert!((sigmas.timestep(sigmas.at(300.5)) - 300.5).abs() < 1e-2);
        assert_eq!((sigmas.timestep(1e-9), sigmas.timestep(1e9)), (0.0, 999.0));
    }

    #[test]
    fn pure_noise_has_a_finite_sigma() {
        let schedule = NoiseSchedule::new(BetaSchedule::Linear, 1000).unwrap().with_zero_terminal_snr();
        assert!((Sigmas::of(&schedule).ends().1 - 4096.0).abs() < 1e-3);
    }
}
