//! How a running mesh is spoken to: TLS, and what the command shows of itself.

use std::path::PathBuf;

use reverie_service_kit::Address;
use reverie_service_kit::client::credential;
use reverie_service_kit::tls::{self, ClientTls, ClientTlsSettings};

use crate::Failure;

/// The variable that holds an API key or a token. Arguments are there for everyone to read.
const API_KEY: &str = "REVERIE_API_KEY";

/// What a command needs for a running mesh that has TLS or asks who calls.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Credentials {
    /// The authorities that sign the certificate of --server (PEM) [default: those the system trusts]
    #[arg(long, value_name = "FILE", env = "REVERIE_TLS_AUTHORITIES")]
    tls_authorities: Option<PathBuf>,
    /// The certificate that is shown to --server, if it asks for one (PEM).
    #[arg(long, value_name = "FILE", env = "REVERIE_TLS_CERTIFICATE", requires = "tls_private_key")]
    tls_certificate: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[arg(long, value_name = "FILE", env = "REVERIE_TLS_PRIVATE_KEY", requires = "tls_certificate")]
    tls_private_key: Option<PathBuf>,
    /// The file that holds the API key or token for --server [default: the variable `REVERIE_API_KEY` holds it]
    #[arg(long, value_name = "FILE", env = "REVERIE_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
}

impl Credentials {
    /// Makes all calls of this process, which go to `server`, secure.
    pub(crate) async fn use_for(&self, server: &Address) -> Result<(), Failure> {
        let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        let settings = ClientTlsSettings {
            authorities: path(&self.tls_authorities),
            certificate: path(&self.tls_certificate),
            private_key: path(&self.tls_private_key),
        };
        if server.is_secure() {
            tls::install(ClientTls::start(&settings).await?);
        }
        let Some(shown) = self.credential()? else { return Ok(()) };
        if !server.is_secure() && !server.is_local() {
            return Err(format!(
                "{server} would get the API key for everyone on the way to read: write https://, or leave the key out"
            )
            .into());
        }
        credential::show(&shown).map_err(|_| "the API key has characters that none can have")?;
        Ok(())
    }

    fn credential(&self) -> Result<Option<String>, Failure> {
        let text = match &self.api_key_file {
            Some(file) => {
                std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?
            }
            None => std::env::var(API_KEY).unwrap_or_default(),
        };
        let text = text.trim();
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}
