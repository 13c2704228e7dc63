//! What an operator can set; `settings.toml` holds the commented defaults.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use reverie_knowledge::EpochSettings;
use reverie_service_kit::client::Addresses;
use reverie_service_kit::settings::{CommonSettings, MAX_IN_FLIGHT, ServiceSettings, SettingsError, within};
use serde::Deserialize;

/// Settings of this service.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The knowledge base of requests that name none.
    pub default_knowledge_base: String,
    /// What every service has: listening, admin server, telemetry.
    #[serde(flatten)]
    pub common: CommonSettings,
    /// What it takes on at a time.
    pub limits: Limits,
    /// The services that it calls.
    pub stages: Stages,
    /// How the hybrid strategy fuses.
    pub fusion: Fusion,
    /// Names of the knowledge bases that can be changed.
    pub writable: BTreeSet<String>,
    /// How the knowledge bases are followed.
    pub epochs: EpochSettings,
    /// Name and location of each knowledge base; one without a location is left out.
    pub knowledge_bases: BTreeMap<String, String>,
}

/// The `[limits]` table.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests that may be worked on at a time.
    pub max_in_flight: usize,
    /// How many of them may be changes of knowledge bases.
    pub max_changes: usize,
}

/// The `[stages]` table: where the services are that this one calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// Turns the prompt into a vector.
    pub encoder: Addresses,
    /// Finds the vectors nearest to it.
    pub vector: Addresses,
}

/// The `[fusion]` table: how BM25 and embeddings are fused.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fusion {
    /// How many hits of each side are fused.
    pub candidates: u32,
    /// A hit of rank r counts 1 / (`rank_constant` + r).
    pub rank_constant: f64,
}

impl Settings {
    /// Name and location of each knowledge base that has a location.
    pub(crate) fn knowledge_bases(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = self.knowledge_bases.iter().map(|(name, location)| (name.as_str(), location.as_str()));
        named.filter(|(_, location)| !location.is_empty())
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "retrieval";
    const PORT: u16 = 7102;

    fn defaults() -> Cow<'static, str> {
        Cow::Borrowed(include_str!("../settings.toml"))
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn validate(&self) -> Result<(), SettingsError> {
        within("limits.max_in_flight", self.limits.max_in_flight, 1, MAX_IN_FLIGHT)?;
        within("limits.max_changes", self.limits.max_changes, 1, MAX_IN_FLIGHT)?;
        within("fusion.candidates", self.fusion.candidates, 8, 1000)?;
        within("fusion.rank_constant", self.fusion.rank_constant, 1.0, 10_000.0)?;
        self.epochs.check().map_err(|why| SettingsError::value("epochs.refresh_ms", why))?;
        let is_known = |name: &str| self.knowledge_bases().any(|(known, _)| known == name);
        if let Some(unknown) = self.writable.iter().find(|name| !is_known(name)) {
            let why = format!("{unknown:?} is not one of [knowledge_bases]");
            return Err(SettingsError::value("writable", why));
        }
        if !self.knowledge_bases().any(|(name, _)| name == self.default_knowledge_base) {
            let known: Vec<_> = self.knowledge_bases().map(|(name, _)| name).collect();
            let why = format!(
                "{:?} is not one of [knowledge_bases]: {}",
                self.default_knowledge_base,
                known.join(", ")
            );
            return Err(SettingsError::value("default_knowledge_base", why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reverie_service_kit::settings::{Sources, load};

    use super::*;

    fn with(key: &str, value: &str) -> Result<Settings, SettingsError> {
        load(&Sources { config: None, overrides: vec![(key.to_owned(), value.to_owned())] })
    }

    #[test]
    fn the_defaults_are_valid() {
        let settings = with("limits.max_in_flight", "8").unwrap();
        assert_eq!(settings.common.server.listen.to_string(), "127.0.0.1:7102");
        assert_eq!(settings.stages.encoder.to_string(), "http://127.0.0.1:7101/");
    }

    #[test]
    fn wrong_values_are_refused_with_their_key() {
        for (key, value) in [
            ("limits.max_in_flight", "0"),
            ("limits.max_changes", "0"),
            ("fusion.candidates", "7"),
            ("fusion.rank_constant", "0.5"),
            ("default_knowledge_base", "birds"),
            ("epochs.refresh_ms", "70000"),
            ("writable", "[\"birds\"]"),
        ] {
            let error = with(key, value).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(with("stages.encoder", "ftp://nowhere").is_err());
    }
}
