//! Which environment variables are settings of a service: those named `REVERIE_SERVICE__SECTION__KEY`, and no others.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{SERVICES, SettingsError};

/// Environment variables by name.
pub(super) type Environment = BTreeMap<String, String>;

/// A variable that is a setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Variable<'a> {
    pub(super) name: &'a str,
    /// The setting's key, from the outermost table inwards.
    pub(super) path: Vec<String>,
    pub(super) text: &'a str,
}

/// The settings of `service` in `environment`. `defaults` are all that it knows.
///
/// # Errors
/// A variable that looks like a setting and would have no effect.
pub(super) fn settings<'a>(
    service: &str,
    defaults: &Table,
    environment: &'a Environment,
) -> Result<Vec<Variable<'a>>, SettingsError> {
    let own = shouted(service);
    let mut found = Vec::new();
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix("REVERIE_").filter(|_| !is_injected(name, text)) else { continue };
        let no_effect = |instead: String| SettingsError::Variable { found: name.clone(), instead };
        match rest.split_once("__") {
            Some((named, path)) if named == own => {
                let path = path.split("__").map(str::to_lowercase).collect();
                found.push(Variable { name, path, text });
            }
            Some((named, _)) if SERVICES.iter().any(|service| shouted(service) == named) => {}
            Some((named, path)) => {
                let section = |service: &str| named.strip_prefix(service)?.strip_prefix('_');
                let known = SERVICES.iter().map(|service| shouted(service)).chain([own.clone()]);
                let nearest = known.min_by_key(|service| {
                    (section(service).is_none(), strsim::damerau_levenshtein(service, named))
                });
                let nearest = nearest.unwrap_or_default();
                let within = section(&nearest).map(|section| format!("{section}__")).unwrap_or_default();
                return Err(no_effect(format!("REVERIE_{nearest}__{within}{path}")));
            }
            None => {
                let meant = rest.strip_prefix(&own).and_then(|rest| rest.strip_prefix('_'));
                if let Some(path) = meant.and_then(|meant| joined_by_one(defaults, meant)) {
                    return Err(no_effect(format!("REVERIE_{own}__{path}")));
                }
            }
        }
    }
    Ok(found)
}

/// A service's name as it stands in variables.
pub(super) fn shouted(service: &str) -> String {
    service.to_uppercase().replace('-', "_")
}

/// The setting whose sections `name` joins by one underscore, joined by two.
fn joined_by_one(defaults: &Table, name: &str) -> Option<String> {
    defaults.iter().find_map(|(key, value)| {
        let key = key.to_uppercase();
        match value {
            Value::Table(section) => {
                let within = joined_by_one(section, name.strip_prefix(&key)?.strip_prefix('_')?)?;
                Some(format!("{key}__{within}"))
            }
            _ => (key == name).then_some(key),
        }
    })
}

/// Whether Kubernetes or a Docker link put the variable there for a Service, which may be called `reverie-pipeline`:
/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`, `NAME_SERVICE_PORT_GRPC`, `NAME_PORT`, `NAME_PORT_7100_TCP` and
/// `NAME_PORT_7100_TCP_PROTO`, `_PORT`, `_ADDR`.
fn is_injected(name: &str, text: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let is_port_variable = |rest: &str| {
        let mut parts = rest.split('_');
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        parts.next().is_some_and(is_number)
            && parts.next().is_some_and(|protocol| PROTOCOLS.contains(&protocol))
            && parts.next().is_none_or(|last| ["PROTO", "PORT", "ADDR"].contains(&last))
            && parts.next().is_none()
    };
    let is_address = PROTOCOLS.iter().any(|protocol| {
        let rest = text.strip_prefix(&protocol.to_lowercase());
        rest.is_some_and(|rest| rest.starts_with("://"))
    });
    name.ends_with("_SERVICE_HOST")
        || name.rsplit_once("_SERVICE_PORT").is_some_and(|(_, port)| port.is_empty() || port.starts_with('_'))
        || name.ends_with("_PORT") && is_address
        || name.match_indices("_PORT_").any(|(at, port)| is_port_variable(&name[at + port.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Table {
        toml::from_str("colour = ''\n[server]\nlisten = ''\ndrain_seconds = 1").unwrap()
    }

    fn read(name: &str, text: &str) -> Result<Vec<Vec<String>>, SettingsError> {
        let environment = Environment::from([(name.to_owned(), text.to_owned())]);
        let found = settings("super-resolution", &defaults(), &environment)?;
        Ok(found.into_iter().map(|variable| variable.path).collect())
    }

    #[test]
    fn two_underscores_make_a_setting() {
        assert_eq!(read("REVERIE_SUPER_RESOLUTION__COLOUR", "x").unwrap(), [["colour"]]);
        assert_eq!(read("REVERIE_SUPER_RESOLUTION__SERVER__LISTEN", "x").unwrap(), [["server", "listen"]]);
        // What nobody knows is for the one who reads the settings to refuse.
        assert_eq!(read("REVERIE_SUPER_RESOLUTION__SERVER__PORT", "7").unwrap(), [["server", "port"]]);
    }

    #[test]
    fn others_are_none_of_it() {
        for name in [
            "REVERIE_PIPELINE__SERVER__LISTEN",
            "REVERIE_CACHE_DIR",
            "REVERIE_BUNDLE",
            "REVERIE_SUPER_RESOLUTION_IMAGE_TAG",
            "PIPLINE__X",
            "PATH",
        ] {
            assert!(read(name, "x").unwrap().is_empty(), "{name}");
        }
    }

    #[test]
    fn what_kubernetes_injects_is_ignored_whatever_the_service_is_named() {
        for service in [
            "REVERIE_SUPER_RESOLUTION",
            "REVERIE_PIPLINE",
            "REVERIE_SUPER_RESOLUTION__CANARY",
            "REVERIE_A__B",
        ] {
            for (name, text) in [
                ("SERVICE_HOST", "10.0.0.1"),
                ("SERVICE_PORT", "7100"),
                ("SERVICE_PORT_GRPC", "7100"),
                ("PORT", "tcp://10.0.0.1:7100"),
                ("PORT_7100_TCP", "tcp://10.0.0.1:7100"),
                ("PORT_7100_TCP_PROTO", "tcp"),
                ("PORT_7100_TCP_PORT", "7100"),
                ("PORT_7100_UDP_ADDR", "10.0.0.1"),
            ] {
                let name = format!("{service}_{name}");
                assert!(read(&name, text).unwrap().is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn a_variable_without_effect_is_named_with_what_was_meant() {
        for (found, instead) in [
            ("REVERIE_SUPER_RESOLUTION_COLOUR", "REVERIE_SUPER_RESOLUTION__COLOUR"),
            ("REVERIE_SUPER_RESOLUTION_SERVER_LISTEN", "REVERIE_SUPER_RESOLUTION__SERVER__LISTEN"),
            ("REVERIE_SUPER_RESOLUTION_SERVER__LISTEN", "REVERIE_SUPER_RESOLUTION__SERVER__LISTEN"),
            ("REVERIE_PIPLINE__SERVER__LISTEN", "REVERIE_PIPELINE__SERVER__LISTEN"),
            ("REVERIE_DENOISR__X", "REVERIE_DENOISER__X"),
        ] {
            let said = read(found, "x").unwrap_err().to_string();
            assert!(said.contains(found) && said.contains(instead), "{said}");
        }
    }
}
