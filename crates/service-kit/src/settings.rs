//! Settings in layers: the service's commented default file < a file < the environment < flags. The later wins; a key that
//! nobody knows is an error that names it.

use std::path::PathBuf;

use config::{Config, Environment, File, FileFormat};
use serde::de::DeserializeOwned;

use crate::serve::ServerSettings;
use crate::telemetry::TelemetrySettings;

/// The settings of one service.
pub trait ServiceSettings: DeserializeOwned {
    /// The service's name: its binary is `reverie-NAME`, its variables start with `REVERIE_NAME__`.
    const SERVICE: &'static str;
    /// The commented default file.
    const DEFAULTS: &'static str;

    /// The `[server]` table.
    fn server(&self) -> &ServerSettings;
    /// The `[telemetry]` table.
    fn telemetry(&self) -> &TelemetrySettings;
    /// Says which key is out of range and why, if one is.
    fn validate(&self) -> Result<(), SettingsError>;
}

/// Where settings come from besides the defaults.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Sources {
    /// Settings file (TOML); `--print-default-settings` shows all keys.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides one setting; may be repeated: --set server.listen=127.0.0.1:7000
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
    pub overrides: Vec<(String, String)>,
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A layer cannot be read, or a key or value is wrong.
    #[error("settings of {service}: {source}")]
    Read {
        /// The service.
        service: &'static str,
        /// What is wrong.
        source: config::ConfigError,
    },
    /// A value is out of range.
    #[error("setting {key}: {why}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with its value.
        why: String,
    },
    /// A variable looks like one of ours and is not.
    #[error(
        "environment variable {found} has no effect: sections are separated by two underscores, as in {prefix}__SERVER__LISTEN"
    )]
    Variable {
        /// The variable.
        found: String,
        /// What variables of the service start with.
        prefix: String,
    },
}

impl SettingsError {
    /// The value of `key` is wrong.
    pub fn value(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Value { key: key.into(), why: why.into() }
    }
}

/// Reads the settings of a service from all layers and validates them.
pub fn load<S: ServiceSettings>(sources: &Sources) -> Result<S, SettingsError> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load_from(sources, environment)
}

fn load_from<S: ServiceSettings>(
    sources: &Sources,
    environment: std::collections::HashMap<String, String>,
) -> Result<S, SettingsError> {
    let prefix = format!("REVERIE_{}", S::SERVICE.to_uppercase().replace('-', "_"));
    if let Some(found) = environment.keys().find(|name| {
        name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('_') && !rest.starts_with("__"))
    }) {
        return Err(SettingsError::Variable { found: found.clone(), prefix });
    }
    let read = |source| SettingsError::Read { service: S::SERVICE, source };
    let mut builder = Config::builder().add_source(File::from_str(S::DEFAULTS, FileFormat::Toml));
    if let Some(path) = &sources.config {
        builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
    }
    builder = builder.add_source(
        Environment::with_prefix(&prefix)
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .ignore_empty(true)
            .source(Some(environment)),
    );
    for (key, value) in &sources.overrides {
        // Read as TOML, so that lists, numbers and booleans work; what is not TOML is a plain text.
        let table = format!("{key} = {value}\n");
        let is_toml = toml::from_str::<toml::Table>(&table).is_ok();
        let table = if is_toml { table } else { format!("{key} = {}\n", toml::Value::String(value.clone())) };
        builder = builder.add_source(File::from_str(&table, FileFormat::Toml));
    }
    let settings: S = builder.build().and_then(Config::try_deserialize).map_err(read)?;
    settings.validate()?;
    Ok(settings)
}

fn parse_override(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write KEY=VALUE, such as server.listen=127.0.0.1:7000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write as _;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        server: ServerSettings,
        telemetry: TelemetrySettings,
        colour: String,
        providers: Vec<String>,
    }

    impl ServiceSettings for Settings {
        const SERVICE: &'static str = "paint-box";
        const DEFAULTS: &'static str = r#"
            colour = "red"
            providers = ["cpu"]
            [server]
            listen = "127.0.0.1:7000"
            max_concurrent_streams = 128
            drain_seconds = 5
            [telemetry]
            log_format = "text"
            log_filter = "info"
            otlp_endpoint = ""
        "#;

        fn server(&self) -> &ServerSettings {
            &self.server
        }

        fn telemetry(&self) -> &TelemetrySettings {
            &self.telemetry
        }

        fn validate(&self) -> Result<(), SettingsError> {
            if self.colour.is_empty() {
                Err(SettingsError::value("colour", "must not be empty"))
            } else {
                Ok(())
            }
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_later_layer_wins() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "colour = \"green\"\n[server]\ndrain_seconds = 9").unwrap();
        let mut sources = Sources { config: Some(file.path().to_owned()), overrides: Vec::new() };

        let settings: Settings = load_from(&sources, HashMap::new()).unwrap();
        assert_eq!((settings.colour.as_str(), settings.server.drain_seconds), ("green", 9));

        let variables = environment(&[("REVERIE_PAINT_BOX__COLOUR", "blue"), ("REVERIE_OTHER__X", "1")]);
        let settings: Settings = load_from(&sources, variables.clone()).unwrap();
        assert_eq!(settings.colour, "blue");

        sources.overrides = ["colour=black", "server.drain_seconds=3", "providers=[\"cuda\", \"cpu\"]"]
            .map(|text| parse_override(text).unwrap())
            .to_vec();
        let settings: Settings = load_from(&sources, variables).unwrap();
        assert_eq!((settings.colour.as_str(), settings.server.drain_seconds), ("black", 3));
        assert_eq!(settings.providers, ["cuda", "cpu"]);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error =
            load_from::<Settings>(&Sources::default(), environment(&[("REVERIE_PAINT_BOX__COLOR", "x")]));
        assert!(error.unwrap_err().to_string().contains("color"));
    }

    #[test]
    fn a_variable_with_the_wrong_separator_is_named() {
        let error =
            load_from::<Settings>(&Sources::default(), environment(&[("REVERIE_PAINT_BOX_COLOUR", "x")]));
        assert!(
            matches!(error, Err(SettingsError::Variable { found, .. }) if found == "REVERIE_PAINT_BOX_COLOUR")
        );
    }

    #[test]
    fn a_bad_value_is_refused_with_its_key() {
        let sources = Sources { config: None, overrides: vec![("colour".to_owned(), "\"\"".to_owned())] };
        assert!(load_from::<Settings>(&sources, HashMap::new()).unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let sources = Sources { config: Some("/nowhere/settings.toml".into()), overrides: Vec::new() };
        assert!(load_from::<Settings>(&sources, HashMap::new()).is_err());
    }
}
