//! Settings of the super-resolution service; `settings.toml` says what each key means.

use reverie_denoising::SchedulerSettings;
use reverie_inference::InferenceSettings;
use reverie_service_kit::serve::ServerSettings;
use reverie_service_kit::settings::{ServiceSettings, SettingsError};
use reverie_service_kit::telemetry::TelemetrySettings;
use serde::Deserialize;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Listening and draining.
    pub server: ServerSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
    /// Models and what they run on.
    pub inference: InferenceSettings,
    /// The step scheduler of each level.
    pub scheduler: SchedulerSettings,
    /// Which levels are served.
    pub cascade: Cascade,
}

/// Which levels are served.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cascade {
    /// Folders in the bundle; empty for all of the bundle's levels.
    pub levels: Vec<String>,
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "super-resolution";
    const DEFAULTS: &'static str = include_str!("../settings.toml");

    fn server(&self) -> &ServerSettings {
        &self.server
    }

    fn telemetry(&self) -> &TelemetrySettings {
        &self.telemetry
    }

    fn validate(&self) -> Result<(), SettingsError> {
        self.scheduler
            .validate()
            .map_err(|wrong| SettingsError::value(format!("scheduler.{}", wrong.name), wrong.to_string()))
    }
}
