//! Noise levels: the schedule of training, the timesteps that sampling visits, and the spacings in sigma.

mod edm;
mod flow;
mod karras;
mod level;
mod noise_levels;
mod schedule;
mod timesteps;

pub use edm::EdmLevels;
pub use flow::FlowShift;
pub(crate) use level::{Level, Point, Waypoints};
pub use noise_levels::{FinalSigma, NoiseLevels};
pub(crate) use noise_levels::{Layout, Steps};
pub use schedule::{BetaSchedule, NoiseSchedule, ScheduleError};
pub use timesteps::{TimestepError, TimestepSpacing};
