//! Noise levels: the schedule of training, the timesteps that sampling visits, and the spacings in sigma.

mod edm;
mod flow;
mod karras;
mod noise_level;
mod schedule;
mod spacing;
mod timesteps;

pub use edm::EdmLevels;
pub use flow::FlowShift;
pub(crate) use noise_level::{NoiseLevel, Point, Waypoints};
pub use schedule::{BetaSchedule, NoiseSchedule, ScheduleError};
pub use spacing::{FinalSigma, NoiseLevels};
pub(crate) use spacing::{Layout, Steps};
pub use timesteps::{TimestepError, TimestepSpacing};
