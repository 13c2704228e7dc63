//! How the forward passes of many requests share the models of a process.
//!
//! - [`session`]: ONNX Runtime sessions of a [package](reverie_packages::Package); on a CPU they share one copy of the weights.
//! - [`lane`]: the threads that run one model, and the bounded queue before them. Every model of the mesh has one.
//! - [`policy`]: whose row runs next, and which jobs are admitted. Plain arithmetic over a list of jobs: no threads, no clock of its
//!   own, no model. `tests/simulator` runs it against seeded arrivals, and `docs/engine.md` has the figures.
//! - [`cost`]: what a pass costs, calibrated and measured.
//! - [`trajectory`]: a job that draws a sample by a diffusion sampler, step by step.
//! - [`cache`]: results by content, computed once.
//! - [`cores`]: the CPU cores of the process, which all lanes share.
//! - [`metrics`]: what lanes tell through OpenTelemetry.

pub mod cache;
#[cfg(feature = "contract")]
#[expect(clippy::expect_used, reason = "it is for tests")]
pub mod contract;
pub mod cores;
pub mod cost;
pub mod error;
pub mod execution;
mod gpus;
pub mod lane;
pub mod metrics;
pub mod policy;
pub mod runtime;
pub mod session;
mod shared_session;
mod single;
pub mod trajectory;
pub mod work;

pub use cache::Cache;
pub use cores::Cores;
pub use error::{ModelError, RowError};
pub use execution::InferenceSettings;
pub use lane::{
    Call, Lane, LaneSettings, Prediction, Resource, RowModel, RunError, StartError, Stats, SubmitError,
    Trouble,
};
pub use session::{Identity, Input, RowData, Session, Tried, Values};
pub use single::Computed;
pub use work::{Failure, Timings};
