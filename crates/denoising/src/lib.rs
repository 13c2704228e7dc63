//! The step scheduler: many trajectories, one forward pass at a time.
//!
//! A diffusion model is evaluated tens of times for one picture, two or three rows each time. Batching whole requests
//! would make a short one wait for a long one; this scheduler batches *steps*. Each tick of its worker thread
//!
//! 1. admits waiting trajectories and lets go of those cancelled or past their deadline (`worker.rs`),
//! 2. picks rows from the trajectories in turn, whatever their timestep, step count, weights or guidance,
//! 3. runs one forward pass ([`RowModel`], `model.rs`),
//! 4. adds up each trajectory's guidance, moves it one step and reports ([`Event`], `trajectory.rs`).
//!
//! Trajectories join and leave between ticks. As a model treats rows independently and all randomness is addressed
//! by (seed, sample, stage, step), a trajectory ends in the same picture alone or in company.
//!
//! Callers meet the scheduler through [`SchedulerHandle`] (`scheduler.rs`): a bounded queue that says no when full.

mod model;
mod outlet;
mod queue;
mod scheduler;
pub mod serving;
mod trajectory;
mod worker;

#[cfg(test)]
mod tests;

pub use model::{ModelError, Row, RowModel};
pub use queue::{Stats, SubmitError};
pub use scheduler::{Scheduler, SchedulerHandle, SchedulerSettings, SpawnError, TooSmall};
pub use trajectory::{Event, Failure, Finished, Progress, Timings, Trajectory};
