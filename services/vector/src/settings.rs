//! What an operator can set; `settings.toml` holds the commented defaults.

use std::borrow::Cow;
use std::collections::BTreeMap;

use reverie_knowledge::EpochSettings;
use reverie_service_kit::settings::{CommonSettings, MAX_IN_FLIGHT, ServiceSettings, SettingsError, within};
use serde::Deserialize;

use crate::milvus::MilvusSettings;

const MAX_EXACT_MIB: usize = 1 << 20;
const MAX_EXPANSION: usize = 10_000;

/// Settings of this service.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// What every service has: listening, admin server, telemetry.
    #[serde(flatten)]
    pub common: CommonSettings,
    /// What it takes on at a time.
    pub limits: Limits,
    /// How it searches.
    pub search: Search,
    /// A Milvus to search in, instead of this process's memory.
    pub milvus: MilvusSettings,
    /// How it follows its knowledge bases.
    pub epochs: EpochSettings,
    /// Name and location of each knowledge base; one without a location is left out.
    pub knowledge_bases: BTreeMap<String, String>,
}

/// The `[search]` table.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Segments whose different vectors have at most this size are searched exactly, MiB.
    pub exact_mib: usize,
    /// Vectors that a search along the graph of a larger segment keeps in view (`ef` of HNSW).
    pub expansion: usize,
}

/// The `[limits]` table.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Searches that may run at a time.
    pub max_in_flight: usize,
}

impl Settings {
    /// Name and location of each knowledge base that has a location.
    pub(crate) fn knowledge_bases(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = self.knowledge_bases.iter().map(|(name, location)| (name.as_str(), location.as_str()));
        named.filter(|(_, location)| !location.is_empty())
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "vector";
    const PORT: u16 = 7103;

    fn defaults() -> Cow<'static, str> {
        Cow::Borrowed(include_str!("../settings.toml"))
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn validate(&self) -> Result<(), SettingsError> {
        within("limits.max_in_flight", self.limits.max_in_flight, 1, MAX_IN_FLIGHT)?;
        within("search.exact_mib", self.search.exact_mib, 0, MAX_EXACT_MIB)?;
        within("search.expansion", self.search.expansion, 10, MAX_EXPANSION)?;
        self.milvus.validate()?;
        self.epochs.check().map_err(|why| SettingsError::value("epochs.refresh_ms", why))?;
        if self.knowledge_bases().next().is_none() {
            return Err(SettingsError::value("knowledge_bases", "must name at least one knowledge base"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reverie_service_kit::settings::{Sources, load};

    use super::*;

    fn with(overrides: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let overrides =
            overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        load(&Sources { config: None, overrides })
    }

    #[test]
    fn the_defaults_are_valid() {
        let settings = with(&[]).unwrap();
        assert_eq!(settings.common.server.listen.to_string(), "127.0.0.1:7103");
        assert_eq!(settings.knowledge_bases().next().unwrap().0, "creatures");
    }

    #[test]
    fn wrong_values_are_refused_with_their_key() {
        for (key, value) in [
            ("limits.max_in_flight", "0"),
            ("search.exact_mib", "1048577"),
            ("search.expansion", "9"),
            ("epochs.refresh_ms", "9"),
            ("milvus.prefix", "\"7-up\""),
            ("milvus.index", "\"IVF\""),
            ("knowledge_bases.creatures", "\"\""),
        ] {
            let error = with(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key.split_once(".c").map_or(key, |(table, _)| table)), "{error}");
        }
    }

    #[test]
    fn a_default_knowledge_base_can_be_left_out() {
        let settings =
            with(&[("knowledge_bases.creatures", "\"\""), ("knowledge_bases.birds", "\"/birds\"")]).unwrap();
        assert_eq!(settings.knowledge_bases().collect::<Vec<_>>(), [("birds", "/birds")]);
    }
}
