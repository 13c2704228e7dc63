//! Settings in layers: the service's commented default file < a file < the environment < flags. The later wins; a key that
//! nobody knows is an error that names it.

mod common;
mod types;
mod variables;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use config::{Config, ConfigError, File, FileFormat};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use common::{CommonSettings, defaults};
use variables::Environment;

/// The services of the mesh, by the names that binaries, variables and flags have.
pub const SERVICES: [&str; 7] =
    ["pipeline", "encoder", "retrieval", "vector", "denoiser", "autoencoder", "super-resolution"];

/// The settings of one service.
pub trait ServiceSettings: DeserializeOwned {
    /// The service's name: its binary is `reverie-NAME`, its variables start with `REVERIE_NAME__`.
    const SERVICE: &'static str;
    /// The port it listens on by default.
    const PORT: u16;
    /// Whether it reads models or knowledge bases, and so has the table `[storage]`.
    const READS_STORAGE: bool = true;

    /// The commented defaults of its own settings; [`defaults`] adds the common ones.
    fn defaults() -> Cow<'static, str>;
    /// The settings that every service has.
    fn common(&self) -> &CommonSettings;
    /// Says which key of its own is out of range and why, if one is.
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
        source: ConfigError,
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
        "environment variable {found} has no effect: settings are named REVERIE_SERVICE__SECTION__KEY, with two underscores between the parts and one of the services {}; did you mean {instead}?",
        SERVICES.join(", ")
    )]
    Variable {
        /// The variable.
        found: String,
        /// What it was probably meant to be.
        instead: String,
    },
}

impl SettingsError {
    /// The value of `key` is wrong.
    pub fn value(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Value { key: key.into(), why: why.into() }
    }
}

/// Most calls that a service which does not draw can be set to work on at a time.
pub const MAX_IN_FLIGHT: usize = 1024;

/// Refuses a value of `key` that is not `least` to `most`.
pub fn within<T: PartialOrd + Copy + fmt::Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), SettingsError> {
    if value >= least && value <= most {
        Ok(())
    } else {
        Err(SettingsError::value(key, format!("must be {least} to {most} (got {value})")))
    }
}

/// Refuses a limit of `key` that lets nothing in.
pub fn at_least_one<T: PartialEq + Default + Copy>(key: &str, limit: T) -> Result<(), SettingsError> {
    if limit == T::default() { Err(SettingsError::value(key, "must be at least 1 (got 0)")) } else { Ok(()) }
}

/// Reads the settings of a service from all layers and validates them.
pub fn load<S: ServiceSettings>(sources: &Sources) -> Result<S, SettingsError> {
    load_effective(sources).map(|(settings, _)| settings)
}

/// The same, with the settings that came out of all layers as TOML.
pub fn load_effective<S: ServiceSettings>(sources: &Sources) -> Result<(S, Table), SettingsError> {
    // Names of ours are ASCII. A value that is no text will be refused or not found, and told as far as it can be.
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    load_from(sources, &std::env::vars_os().filter_map(text).collect())
}

fn load_from<S: ServiceSettings>(
    sources: &Sources,
    environment: &Environment,
) -> Result<(S, Table), SettingsError> {
    let read = |source| SettingsError::Read { service: S::SERVICE, source };
    let text = defaults::<S>();
    let defaults: Table = toml::from_str(&text).map_err(|error| read(foreign(error)))?;
    let mut builder = Config::builder().add_source(File::from_str(&text, FileFormat::Toml));
    if let Some(path) = &sources.config {
        // What cannot be read, or is no TOML, is told by the builder, which would take what is no text for some.
        let text = std::fs::read_to_string(path);
        if text.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidData) {
            return Err(read(ConfigError::Message(format!("{} is not UTF-8", path.display()))));
        }
        let table = text.ok().and_then(|text| toml::from_str(&text).ok());
        if let Some((key, why)) = table.and_then(|table| types::mismatch(&defaults, &table)) {
            return Err(SettingsError::value(key, format!("{why}, in {}", path.display())));
        }
        builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
    }
    let mut texts = Vec::new();
    for variable in variables::settings(S::SERVICE, &defaults, environment)? {
        texts.push((variable.path, variable.text, format!("the variable {}", variable.name)));
    }
    for (key, value) in &sources.overrides {
        let path =
            key_path(key).ok_or_else(|| SettingsError::value(key, "is no key such as server.listen"))?;
        texts.push((path, value, "--set".to_owned()));
    }
    for (path, text, origin) in texts {
        let (first, within) =
            path.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let default =
            within.iter().try_fold(defaults.get(first), |default, key| default.map(|found| found.get(key)));
        let value = types::read(default.flatten(), text)
            .map_err(|why| SettingsError::value(path.join("."), format!("{why}, by {origin}")))?;
        let value =
            within.iter().rev().fold(value, |value, key| Table::from_iter([(key.clone(), value)]).into());
        let table = Table::from_iter([(first.to_owned(), value)]);
        builder = builder.add_source(File::from_str(&table.to_string(), FileFormat::Toml));
    }
    let config = builder.build().map_err(read)?;
    let effective: Table = config.clone().try_deserialize().map_err(read)?;
    if let Some(unknown) = effective.keys().find(|key| !defaults.contains_key(*key)) {
        let known: Vec<_> = defaults.keys().map(String::as_str).collect();
        return Err(SettingsError::value(unknown, format!("is unknown; there are {}", known.join(", "))));
    }
    // First without its surroundings: an error in a flattened table would not name the key.
    config.clone().try_deserialize::<CommonSettings>().map_err(read)?.validate()?;
    let settings: S = config.try_deserialize().map_err(read)?;
    settings.validate()?;
    Ok((settings, effective))
}

fn foreign(error: toml::de::Error) -> ConfigError {
    ConfigError::Foreign(Box::new(error))
}

/// The parts of a dotted TOML key.
fn key_path(key: &str) -> Option<Vec<String>> {
    let mut value = Value::Table(toml::from_str(&format!("{key} = 0")).ok()?);
    let mut path = Vec::new();
    while let Value::Table(table) = value {
        let mut entries = table.into_iter();
        let (part, within) = entries.next()?;
        entries.next().is_none().then_some(())?;
        path.push(part);
        value = within;
    }
    Some(path)
}

fn parse_override(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write KEY=VALUE, such as server.listen=127.0.0.1:7000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Settings {
        #[serde(flatten)]
        common: CommonSettings,
        colour: String,
        providers: Vec<String>,
    }

    impl ServiceSettings for Settings {
        const SERVICE: &'static str = "paint-box";
        const PORT: u16 = 7000;

        fn defaults() -> Cow<'static, str> {
            Cow::Borrowed("colour = \"red\"\nproviders = [\"cpu\"]\n")
        }

        fn common(&self) -> &CommonSettings {
            &self.common
        }

        fn validate(&self) -> Result<(), SettingsError> {
            if self.colour.is_empty() {
                Err(SettingsError::value("colour", "must not be empty"))
            } else {
                Ok(())
            }
        }
    }

    fn read(sources: &Sources, environment: &Environment) -> Result<Settings, SettingsError> {
        load_from(sources, environment).map(|(settings, _)| settings)
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_later_layer_wins() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "colour = \"green\"\n[server]\ndrain_seconds = 9").unwrap();
        let mut sources = Sources { config: Some(file.path().to_owned()), overrides: Vec::new() };

        let settings: Settings = read(&sources, &Environment::new()).unwrap();
        assert_eq!((settings.colour.as_str(), settings.common.server.drain_seconds), ("green", 9));

        let variables = environment(&[("REVERIE_PAINT_BOX__COLOUR", "blue"), ("REVERIE_VECTOR__X", "1")]);
        let settings: Settings = read(&sources, &variables).unwrap();
        assert_eq!(settings.colour, "blue");

        sources.overrides = ["colour=black", "server.drain_seconds=3", "providers=[\"cuda\", \"cpu\"]"]
            .map(|text| parse_override(text).unwrap())
            .to_vec();
        let settings: Settings = read(&sources, &variables).unwrap();
        assert_eq!((settings.colour.as_str(), settings.common.server.drain_seconds), ("black", 3));
        assert_eq!(settings.providers, ["cuda", "cpu"]);
    }

    #[test]
    fn a_file_that_is_no_text_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"colour = \"gr\xfcn\"\n").unwrap();
        let sources = Sources { config: Some(file.path().to_owned()), overrides: Vec::new() };
        let error = read(&sources, &Environment::new()).unwrap_err().to_string();
        assert!(error.ends_with("is not UTF-8") && error.contains(file.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = read(&Sources::default(), &environment(&[("REVERIE_PAINT_BOX__COLOR", "x")]));
        assert!(error.unwrap_err().to_string().contains("color"));
    }

    #[test]
    fn a_text_stays_a_text_and_a_number_a_number() {
        for text in ["007", "1e3", "TRUE", "[a]"] {
            let variables = environment(&[("REVERIE_PAINT_BOX__COLOUR", text)]);
            let settings: Settings = read(&Sources::default(), &variables).unwrap();
            assert_eq!(settings.colour, text);
            let overrides = vec![("colour".to_owned(), text.to_owned())];
            let sources = Sources { config: None, overrides };
            let settings: Settings = read(&sources, &Environment::new()).unwrap();
            assert_eq!(settings.colour, text);
        }
        let variables = environment(&[("REVERIE_PAINT_BOX__SERVER__DRAIN_SECONDS", "7")]);
        let settings: Settings = read(&Sources::default(), &variables).unwrap();
        assert_eq!(settings.common.server.drain_seconds, 7);
        let soon = environment(&[("REVERIE_PAINT_BOX__SERVER__DRAIN_SECONDS", "soon")]);
        let said = read(&Sources::default(), &soon).unwrap_err().to_string();
        assert!(said.contains("server.drain_seconds") && said.contains("DRAIN_SECONDS"), "{said}");
    }

    #[test]
    fn variables_hold_lists_and_nothing() {
        let variables = environment(&[
            ("REVERIE_PAINT_BOX__PROVIDERS", "cuda,cpu"),
            ("REVERIE_PAINT_BOX__TELEMETRY__LOG_FILTER", ""),
        ]);
        let settings: Settings = read(&Sources::default(), &variables).unwrap();
        assert_eq!(settings.providers, ["cuda", "cpu"]);
        assert_eq!(settings.common.telemetry.log_filter, "");
        let variables = environment(&[("REVERIE_PAINT_BOX__PROVIDERS", "")]);
        let settings: Settings = read(&Sources::default(), &variables).unwrap();
        assert!(settings.providers.is_empty());
    }

    #[test]
    fn a_file_says_what_it_means() {
        for (line, key) in
            [("colour = 1e3", "colour"), ("[server]\ndrain_seconds = \"9\"", "server.drain_seconds")]
        {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            writeln!(file, "{line}").unwrap();
            let sources = Sources { config: Some(file.path().to_owned()), overrides: Vec::new() };
            let said = read(&sources, &Environment::new()).unwrap_err().to_string();
            assert!(said.contains(key) && said.contains("must be"), "{said}");
        }
    }

    #[test]
    fn a_misspelt_service_is_named() {
        let error = read(&Sources::default(), &environment(&[("REVERIE_PIANT_BOX__COLOUR", "x")]));
        let said = error.unwrap_err().to_string();
        assert!(
            said.contains("REVERIE_PIANT_BOX__COLOUR") && said.contains("REVERIE_PAINT_BOX__COLOUR"),
            "{said}"
        );
    }

    #[test]
    fn a_bad_value_is_refused_with_its_key() {
        let sources = Sources { config: None, overrides: vec![("colour".to_owned(), "\"\"".to_owned())] };
        assert!(read(&sources, &Environment::new()).unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let sources = Sources { config: Some("/nowhere/settings.toml".into()), overrides: Vec::new() };
        assert!(read(&sources, &Environment::new()).is_err());
    }

    #[test]
    fn an_error_in_a_common_table_names_its_key() {
        for (key, value) in
            [("server.listen", "nowhere"), ("telemetry.log_format", "xml"), ("serve.listen", "x")]
        {
            let sources = Sources { config: None, overrides: vec![(key.to_owned(), value.to_owned())] };
            let said = read(&sources, &Environment::new()).unwrap_err().to_string();
            assert!(said.contains(key.strip_suffix(".listen").unwrap_or(key)), "{said}");
        }
    }

    #[test]
    fn the_default_file_is_whole_and_the_effective_settings_are_its_keys() {
        let text = defaults::<Settings>();
        let overrides = vec![("server.listen".to_owned(), "127.0.0.1:9".to_owned())];
        let (settings, effective) =
            load_from::<Settings>(&Sources { config: None, overrides }, &Environment::new()).unwrap();
        let mut expected: Table = toml::from_str(&text).unwrap();
        assert_eq!(expected["server"]["listen"].as_str(), Some("127.0.0.1:7000"));
        expected["server"]["listen"] = "127.0.0.1:9".into();
        assert_eq!(effective, expected);
        assert_eq!(settings.common.admin.listen, "");
    }
}
