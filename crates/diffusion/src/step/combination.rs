//! Linear combinations of what a step has at hand, so that a sampler's formulas stand in the code as in its paper.
//!
//! Every sampler here moves x to a weighted sum of x, x0, eps and a few tensors kept from earlier evaluations. The weights
//! depend on the schedule alone: they are worked out once, in `f64`, by adding and scaling [`Combination`]s as if these
//! were the tensors.

use std::ops::{Add, Div, Mul, Sub};

use super::Conversion;

/// Tensors a sampler can keep from one evaluation to the next.
pub(crate) const SLOTS: usize = 5;

/// The operands by their place: x, x0, eps, then the kept tensors.
pub(crate) const X: usize = 0;
pub(crate) const X0: usize = 1;
pub(crate) const EPS: usize = 2;
pub(crate) const KEPT: usize = 3;
pub(crate) const OPERANDS: usize = KEPT + SLOTS;

/// A weight for each operand.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Combination([f64; OPERANDS]);

impl Combination {
    /// The x that the model was evaluated at.
    pub(crate) const X: Self = Self::operand(X);
    /// The x0 read from the model's output, thresholded.
    pub(crate) const X0: Self = Self::operand(X0);
    /// The eps read from the model's output, or that of the thresholded x0: [`NoiseLevel::eps`](crate::levels::NoiseLevel::eps)
    /// without its cancellation. It takes another sum over the sample, so it is for samplers that subtract one eps from
    /// another.
    pub(crate) const EPS: Self = Self::operand(EPS);

    /// What an earlier evaluation kept in `slot`.
    pub(crate) const fn kept(slot: usize) -> Self {
        Self::operand(KEPT + slot)
    }

    const fn operand(index: usize) -> Self {
        let mut weights = [0.0; OPERANDS];
        weights[index] = 1.0;
        Self(weights)
    }

    /// The same with the model's output itself in the place of x0, and no eps: for an x0 that is not thresholded.
    pub(crate) fn over_output(self, conversion: Conversion) -> Self {
        let [(x0_from_x, x0_from_output), (eps_from_x, eps_from_output)] = conversion.coefficients();
        let mut weights = self.0;
        let (x0, eps) = (self.0[X0], self.0[EPS]);
        // Coefficients of what is not there may be infinite.
        let part = |weight: f64, coefficient: f64| if weight == 0.0 { 0.0 } else { weight * coefficient };
        weights[X] += part(x0, x0_from_x) + part(eps, eps_from_x);
        weights[X0] = part(x0, x0_from_output) + part(eps, eps_from_output);
        weights[EPS] = 0.0;
        Self(weights)
    }

    /// The weights, by operand.
    pub(crate) fn weights(&self) -> [f64; OPERANDS] {
        self.0
    }
}

impl Add for Combination {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
}

impl Sub for Combination {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }
}

impl Mul<Combination> for f64 {
    type Output = Combination;

    fn mul(self, combination: Combination) -> Combination {
        Combination(combination.0.map(|weight| self * weight))
    }
}

impl Div<f64> for Combination {
    type Output = Self;

    fn div(self, divisor: f64) -> Self {
        Self(self.0.map(|weight| weight / divisor))
    }
}
