//! Settings of the encoder service; `settings.toml`, and for `[inference]` and `[lane]` `models.toml` of `reverie-stage`,
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
    /// Memory for the encoded texts of each text model, MiB.
    pub cache_mib: u64,
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "encoder";
    const PORT: u16 = 7101;

    fn defaults() -> Cow<'static, str> {
        let models = ModelDefaults { sessions: 0, threads: 1, max_jobs: 1024 };
        Cow::Owned(format!("{models}\n{}", include_str!("../settings.toml")))
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn validate(&self) -> Result<(), SettingsError> {
        lanes::validate(&self.lane)?;
        at_least_one("limits.max_in_flight", self.limits.max_in_flight)?;
        Ok(())
    }
}
