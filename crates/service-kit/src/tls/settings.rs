//! The settings of TLS.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::settings::SettingsError;

/// The `[server.tls]` table: what a service shows to its callers, and what they have to show. No path means that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTlsSettings {
    /// The certificate chain, PEM, the service's own first.
    pub certificate: PathBuf,
    /// The private key of that certificate, PEM.
    pub private_key: PathBuf,
    /// The authorities whose certificates callers have to show, PEM.
    pub client_authorities: PathBuf,
    /// Which callers may call, by a name in their certificate, and which methods; nobody here means all callers and all methods.
    pub callers: BTreeMap<String, Vec<String>>,
}

impl ServerTlsSettings {
    /// Whether the service speaks TLS.
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }

    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
        pair("server.tls", &self.certificate, &self.private_key)?;
        let asks = !self.client_authorities.as_os_str().is_empty();
        if asks && !self.is_on() {
            let why = "needs server.tls.certificate: callers show certificates within TLS only";
            return Err(SettingsError::value("server.tls.client_authorities", why));
        }
        if !self.callers.is_empty() && !asks {
            let why = "needs server.tls.client_authorities: without it callers show no certificate";
            return Err(SettingsError::value("server.tls.callers", why));
        }
        let patterns = self.callers.iter().flat_map(|(name, methods)| methods.iter().map(move |m| (name, m)));
        for (name, pattern) in patterns {
            if pattern != "*"
                && !matches!(pattern.split('/').collect::<Vec<_>>()[..], [service, method] if !service.is_empty() && !method.is_empty())
            {
                let why = format!(
                    "{pattern:?} is no method: write \"*\", \"package.Service/*\" or \"package.Service/Method\""
                );
                return Err(SettingsError::value(format!("server.tls.callers.{name}"), why));
            }
        }
        Ok(())
    }
}

/// The `[client.tls]` table: whom a service believes at `https://` addresses, and what it shows of itself. No path means that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTlsSettings {
    /// The authorities that sign the certificates of the services that are called, PEM; those of the system if there is none.
    pub authorities: PathBuf,
    /// The certificate chain that is shown to services that ask for one, PEM.
    pub certificate: PathBuf,
    /// The private key of that certificate, PEM.
    pub private_key: PathBuf,
}

impl ClientTlsSettings {
    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
        pair("client.tls", &self.certificate, &self.private_key)
    }
}

/// The `[client]` table: how other services are called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    /// TLS.
    pub tls: ClientTlsSettings,
}

fn pair(table: &str, certificate: &std::path::Path, key: &std::path::Path) -> Result<(), SettingsError> {
    match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
        (true, false) => {
            Err(SettingsError::value(format!("{table}.certificate"), "is missing beside private_key"))
        }
        (false, true) => {
            Err(SettingsError::value(format!("{table}.private_key"), "is missing beside certificate"))
        }
        _ => Ok(()),
    }
}
