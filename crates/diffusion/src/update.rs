//! The move from one timestep to the next, as first-order samplers share it.

use crate::noise::{NoiseSource, Stream};

/// x <- `x` x + `x0` x0 + `z` z, with z unit normal.
///
/// eps does not appear: x = a x0 + s eps gives it from the other two, and that *is* the eps which belongs to the
/// thresholded x0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Update {
    pub(crate) x: f32,
    pub(crate) x0: f32,
    pub(crate) z: f32,
}

impl Update {
    /// The update A x0 + B eps + C z at a timestep with cumulative alpha `abar`: eps = (x - a x0) / s.
    pub(crate) fn from_eps(abar: f64, x0: f64, eps: f64, z: f64) -> Self {
        let (a, s) = (abar.sqrt(), (1.0 - abar).sqrt());
        Self { x: (eps / s) as f32, x0: (x0 - eps * a / s) as f32, z: z as f32 }
    }

    /// x at the next timestep, before noise.
    #[inline]
    pub(crate) fn moved(&self, x: f32, x0: f32) -> f32 {
        self.x * x + self.x0 * x0
    }

    /// Adds the noise of step `step`, drawn only where it counts.
    pub(crate) fn add_noise(&self, step: u32, x: &mut [f32], noise: &NoiseSource) {
        if self.z != 0.0 {
            noise.add_normal(Stream::StepNoise, step, self.z, x);
        }
    }
}
