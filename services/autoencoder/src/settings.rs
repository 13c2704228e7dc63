//! Settings of the autoencoder service; `settings.toml` says what each key means.

use reverie_engine::{InferenceSettings, LaneSettings};
use reverie_service_kit::serve::ServerSettings;
use reverie_service_kit::settings::{ServiceSettings, SettingsError};
use reverie_service_kit::telemetry::TelemetrySettings;
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
        if self.limits.max_in_flight == 0 {
            return Err(SettingsError::value("limits.max_in_flight", "must be at least 1"));
        }
        if self.limits.max_side == 0 {
            return Err(SettingsError::value("limits.max_side", "must be at least 1"));
        }
        Ok(())
    }
}
