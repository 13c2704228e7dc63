//! Random numbers as a pure function of where they are used, and what is noised with them besides a trajectory.

mod augmentation;
mod normal;
mod philox;
mod source;

pub use augmentation::{AugmentationError, augment, augment_at, augmentation_timestep};
pub use source::{NoiseSource, Stream};
