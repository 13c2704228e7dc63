//! Settings of the pipeline service; `settings.toml` says what each key means.

use reverie_imaging::pictures::MAX_ENCODED_BYTES;
use reverie_proto::limits::MAX_NEIGHBOURS;
use reverie_service_kit::client::Addresses;
use reverie_service_kit::settings::{CommonSettings, ServiceSettings, SettingsError};
use serde::Deserialize;

/// The largest request that is taken, MiB: references, an initial image and its mask of the largest size, and 1 MiB of text.
const MAX_REQUEST_MIB: usize = 1 + (((MAX_NEIGHBOURS as usize + 2) * MAX_ENCODED_BYTES) >> 20);

/// All settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// What every service has: listening, admin server, telemetry.
    #[serde(flatten)]
    pub common: CommonSettings,
    /// Where the other services are.
    pub stages: StageAddresses,
    /// Bounds.
    pub limits: Limits,
    /// What a request that says nothing gets.
    pub defaults: Defaults,
}

/// Where the other services are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageAddresses {
    /// The encoder service.
    pub encoder: Addresses,
    /// The retrieval service; none where nothing is remembered.
    #[serde(deserialize_with = "Addresses::optional")]
    pub retrieval: Option<Addresses>,
    /// The denoiser service.
    pub denoiser: Addresses,
    /// The autoencoder service; only models that work on latents need it.
    #[serde(deserialize_with = "Addresses::optional")]
    pub autoencoder: Option<Addresses>,
    /// The super-resolution deployments.
    pub super_resolution: Vec<Addresses>,
}

/// Bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are the keys of settings.toml")]
pub struct Limits {
    /// Pictures in flight.
    pub max_in_flight: usize,
    /// Bytes of a request, MiB.
    pub max_request_mib: usize,
    /// Seconds that a request may take.
    pub max_request_seconds: u64,
}

/// What a request that says nothing gets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// K.
    pub neighbours: u32,
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "pipeline";
    const PORT: u16 = 7100;
    const DEFAULTS: &'static str = include_str!("../settings.toml");

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn validate(&self) -> Result<(), SettingsError> {
        if self.limits.max_in_flight == 0 {
            return Err(SettingsError::value("limits.max_in_flight", "must be at least 1"));
        }
        if !(1..=MAX_REQUEST_MIB).contains(&self.limits.max_request_mib) {
            let why = format!("must be 1 to {MAX_REQUEST_MIB} (got {})", self.limits.max_request_mib);
            return Err(SettingsError::value("limits.max_request_mib", why));
        }
        if self.limits.max_request_seconds == 0 {
            return Err(SettingsError::value("limits.max_request_seconds", "must be at least 1"));
        }
        if !(1..=MAX_NEIGHBOURS).contains(&self.defaults.neighbours) {
            return Err(SettingsError::value(
                "defaults.neighbours",
                format!("must be 1 to {MAX_NEIGHBOURS}"),
            ));
        }
        Ok(())
    }
}
