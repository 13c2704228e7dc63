//! The samplers, one file each: which evaluations of the model a trajectory takes, and how x moves after each.
//!
//! To add a sampler: one file with an `evaluations` function beside [`ddim`] and the others, one variant of [`Method`] and
//! [`SamplerKind`], one arm in [`evaluations()`].

#[cfg(test)]
mod convergence;
pub(crate) mod ddim;
pub(crate) mod ddpm;
mod dpm_solver;
mod euler;
mod evaluations;
mod heun;
pub(crate) mod lcm;
mod method;
#[cfg(test)]
mod parity;
pub(crate) mod pndm;
pub(crate) mod unipc;

pub use ddim::{DdimNoise, PreviousTimestep};
pub use ddpm::Variance;
pub(crate) use evaluations::evaluations;
pub use method::{Method, SamplerKind};
