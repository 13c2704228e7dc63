//! The settings that every service has, and the text of a service's default file.

use reverie_storage::StorageSettings;
use serde::Deserialize;

use super::{ServiceSettings, SettingsError};
use crate::admin::AdminSettings;
use crate::serve::ServerSettings;
use crate::telemetry::TelemetrySettings;
use crate::tls::ClientSettings;

/// The tables that every service has. A service's settings hold them with `#[serde(flatten)]`; unknown tables are found by
/// [`super::load`], because serde cannot deny unknown fields beside flattened ones.
#[derive(Debug, Clone, Deserialize)]
pub struct CommonSettings {
    /// Listening and draining.
    pub server: ServerSettings,
    /// Calling other services.
    #[serde(default)]
    pub client: ClientSettings,
    /// The admin server.
    pub admin: AdminSettings,
    /// Logs, traces and metrics.
    pub telemetry: TelemetrySettings,
    /// The cache of what is read from object storage; the defaults of a service that reads nothing do not have it.
    #[serde(default)]
    pub storage: StorageSettings,
}

impl CommonSettings {
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        self.server.validate()?;
        self.client.tls.validate()?;
        self.telemetry.validate()
    }
}

/// The commented default file of a service: its own settings, then the common ones.
pub fn defaults<S: ServiceSettings>() -> String {
    let (service, variable, port) = (S::SERVICE, super::variables::shouted(S::SERVICE), S::PORT);
    let common = include_str!("common.toml").replace("{port}", &port.to_string());
    let storage = if S::READS_STORAGE { concat!("\n", include_str!("storage.toml")) } else { "" };
    format!(
        "# Settings of reverie-{service}, with their defaults.\n\
         #\n\
         # A file given by --config, then environment variables, then --set flags override them. A variable's name is\n\
         # REVERIE_{variable}__ and the key with two underscores between sections:\n\
         # REVERIE_{variable}__SERVER__LISTEN=0.0.0.0:{port}\n\n\
         {}\n{common}{storage}",
        S::defaults()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_the_same_in_the_default_file_and_without_one() {
        let table: toml::Table = toml::from_str(include_str!("storage.toml")).unwrap();
        let storage: StorageSettings = table["storage"].clone().try_into().unwrap();
        assert_eq!(storage, StorageSettings::default());
    }
}
