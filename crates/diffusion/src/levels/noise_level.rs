//! A noise level, and the points of a trajectory.

use crate::step::Combination;

/// x = a x0 + s eps, at the scale in which the model sees x.
///
/// Whatever a paper calls its sample, here x is always the model's input: sampling in sigma (Karras et al. 2022) differs
/// from sampling in abar by a factor only, which belongs to the level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NoiseLevel {
    pub(crate) a: f64,
    pub(crate) s: f64,
}

/// A level, and what the model is told of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) timestep: f64,
    pub(crate) level: NoiseLevel,
}

/// The points where the model is evaluated, from the noisiest, and where the last step ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waypoints {
    pub(crate) points: Vec<Point>,
    pub(crate) end: NoiseLevel,
}

impl Waypoints {
    pub(crate) fn level(&self, i: usize) -> NoiseLevel {
        self.points.get(i).map_or(self.end, |point| point.level)
    }

    /// What is left without the first `skipped` points.
    pub(crate) fn without_first(self, skipped: usize) -> Self {
        Self { points: self.points.into_iter().skip(skipped).collect(), ..self }
    }

    /// Each point with the level that its step moves to.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Point, NoiseLevel)> + '_ {
        self.points.iter().enumerate().map(|(i, &point)| (point, self.level(i + 1)))
    }
}

impl NoiseLevel {
    /// The finished sample.
    pub(crate) const CLEAN: Self = Self { a: 1.0, s: 0.0 };

    /// a^2 = abar, a^2 + s^2 = 1: variance preserving.
    pub(crate) fn of_abar(abar: f64) -> Self {
        Self { a: abar.sqrt(), s: (1.0 - abar).sqrt() }
    }

    /// Variance preserving, with sigma = s / a.
    pub(crate) fn of_sigma(sigma: f64) -> Self {
        let a = 1.0 / (sigma * sigma + 1.0).sqrt();
        Self { a, s: sigma * a }
    }

    /// sigma: the noise a unit of signal carries.
    pub(crate) fn sigma(&self) -> f64 {
        self.s / self.a
    }

    /// lambda = ln(a / s), half the logarithm of the signal-to-noise ratio; infinite at [`Self::CLEAN`].
    pub(crate) fn lambda(&self) -> f64 {
        // Where no signal is left (flow matching begins there) steps in lambda would be infinite.
        libm::log(self.a.max(1e-6)) - libm::log(self.s)
    }

    /// eps = (x - a x0) / s: the noise that belongs to the thresholded x0.
    pub(crate) fn eps(&self) -> Combination {
        (Combination::X - self.a * Combination::X0) / self.s
    }

    /// a x0 + s eps: a sample at this level.
    pub(crate) fn mix(&self, x0: Combination, eps: Combination) -> Combination {
        self.a * x0 + self.s * eps
    }
}
