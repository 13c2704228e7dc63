//! TLS of a server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::files::{authorities, identity};
use super::{HTTP_1, HTTP_2, Names, ServerTlsSettings};
use crate::Refusal;
use crate::watched::{Build, FileError, Watched};

/// A connection that is about to speak TLS.
pub(crate) type Greeting = tokio_rustls::Accept<TcpStream>;

/// How a server speaks TLS.
pub(crate) struct ServerTls(Watched<ServerConfig>);

impl ServerTls {
    /// Reads certificates and keys; none if TLS is off. Inside, HTTP/2 is spoken, and with `http_1` also HTTP/1.1.
    pub(crate) async fn start(settings: &ServerTlsSettings, http_1: bool) -> Result<Option<Self>, FileError> {
        if !settings.is_on() {
            return Ok(None);
        }
        Ok(Some(Self(Watched::start(Configured { settings: settings.clone(), http_1 }).await?)))
    }

    /// Begins to speak TLS on a connection.
    pub(crate) fn accept(&self, stream: TcpStream) -> Greeting {
        TlsAcceptor::from(self.0.current()).accept(stream)
    }
}

/// Builds the configuration of a server from the files that its settings name.
struct Configured {
    settings: ServerTlsSettings,
    http_1: bool,
}

impl Build for Configured {
    type Built = ServerConfig;

    fn files(&self) -> Vec<PathBuf> {
        let ServerTlsSettings { certificate, private_key, client_authorities, .. } = &self.settings;
        let files = [certificate, private_key, client_authorities];
        files.into_iter().filter(|file| !file.as_os_str().is_empty()).cloned().collect()
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<ServerConfig, FileError> {
        let ServerTlsSettings { certificate, private_key, client_authorities, .. } = &self.settings;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = identity("server", (certificate, &contents[0]), (private_key, &contents[1]), &provider)?;
        let unusable = |error: &dyn std::fmt::Display| {
            FileError::content(certificate, format!("TLS cannot be spoken with it: {error}"))
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?;
        let builder = match contents.get(2) {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots = Arc::new(authorities(client_authorities, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| FileError::content(client_authorities, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)));
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        if self.http_1 {
            config.alpn_protocols.push(HTTP_1.to_vec());
        }
        // A session that is resumed would not have the certificates of both sides checked again, for as long as it is.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Which methods callers may call, by the names in their certificates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Callers(BTreeMap<String, Vec<String>>);

impl Callers {
    pub(crate) fn new(settings: &ServerTlsSettings) -> Self {
        Self(settings.callers.clone())
    }

    /// Whether a caller with these names may call the method at `path` (`/package.Service/Method`). Health may be asked for by all.
    pub(crate) fn check(&self, names: Option<&Names>, path: &str) -> Result<(), Refusal> {
        let method = path.trim_start_matches('/');
        if self.0.is_empty() || method.starts_with("grpc.health.") {
            return Ok(());
        }
        let nobody = Names::default();
        let names = names.unwrap_or(&nobody);
        let mut patterns = names.iter().filter_map(|name| self.0.get(name)).flatten();
        if patterns.any(|pattern| is_match(pattern, method)) {
            return Ok(());
        }
        Err(Refusal::permission_denied(format!(
            "{method} is not open to the caller, whose certificate has {names}"
        )))
    }
}

fn is_match(pattern: &str, method: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => method.starts_with(start),
        None => pattern == method,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_all_or_a_service_or_a_method() {
        for (pattern, method, matches) in [
            ("*", "reverie.vector.v1.VectorService/Search", true),
            ("reverie.vector.v1.VectorService/*", "reverie.vector.v1.VectorService/Search", true),
            ("reverie.vector.v1.VectorService/*", "reverie.vector.v1.VectorServiceOther/Search", false),
            ("reverie.vector.v1.VectorService/Search", "reverie.vector.v1.VectorService/Search", true),
            ("reverie.vector.v1.VectorService/Search", "reverie.vector.v1.VectorService/SearchAll", false),
        ] {
            assert_eq!(is_match(pattern, method), matches, "{pattern} {method}");
        }
    }
}
