//! Settings of the autoencoder service; `settings.toml`, and for `[inference]` and `[lane]` `models.toml` of `reverie-stage`,
//! say what each key means.

use std::borrow::Cow;

use reverie_engine::{InferenceSettings, LaneSettings};
use reverie_service_kit::settings::{CommonSettings, ServiceSettings, SettingsError, at_least_one};
use reverie_stage::lanes;
use reverie_stage::settings::ModelDefaults;
use serde::Deserialize;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// What every service has: listening, admin server, telemetry.
    #[serde(flatten)]
    pub common: CommonSettings,
    /// Models and what they run on.
    pub inference: InferenceSettings,
    /// The queue of each model.
    pub lane: LaneSettings,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests in flight.
    pub max_in_flight: usize,
    /// The largest side of a picture, pixels.
    pub max_side: usize,
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "autoencoder";
    const PORT: u16 = 7106;

    fn defaults() -> Cow<'static, str> {
        let models = ModelDefaults { sessions: 1, threads: 0, max_jobs: 64 };
        Cow::Owned(format!("{models}\n{}", include_str!("../settings.toml")))
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn validate(&self) -> Result<(), SettingsError> {
        lanes::validate(&self.lane)?;
        at_least_one("limits.max_in_flight", self.limits.max_in_flight)?;
        at_least_one("limits.max_side", self.limits.max_side)
    }
}
