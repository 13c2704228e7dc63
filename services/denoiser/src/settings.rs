//! Settings of the denoiser service; `settings.toml` says what each key means.

use reverie_engine::{InferenceSettings, LaneSettings};
use reverie_service_kit::serve::ServerSettings;
use reverie_service_kit::settings::{ServiceSettings, SettingsError};
use reverie_service_kit::telemetry::TelemetrySettings;
use reverie_stage::answers::ProgressSettings;
use reverie_stage::lanes;
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
    /// The queue of each model.
    pub lane: LaneSettings,
    /// What the service tells of a drawing.
    pub progress: ProgressSettings,
    /// Results that are kept.
    pub cache: Cache,
}

/// Results that are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Memory for the features of neighbours, MiB.
    pub neighbours_mib: u64,
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
        self.server.validate()?;
        lanes::validate(&self.lane)?;
        self.progress.validate()
    }
}
