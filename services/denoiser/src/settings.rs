//! Settings of the denoiser service; `settings.toml` says what each key means.

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
    /// The step scheduler.
    pub scheduler: SchedulerSettings,
    /// What is remembered.
    pub cache: Cache,
}

/// What is remembered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Neighbours whose features are kept.
    pub neighbours: u64,
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "denoiser";
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
