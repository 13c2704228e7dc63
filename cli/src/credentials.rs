//! How a running mesh is spoken to: TLS, and what the command shows of itself.

use reverie_service_kit::Address;
use reverie_service_kit::client::credential;
use reverie_service_kit::tls::{self, ClientTls, ClientTlsSettings};

use crate::Failure;

/// The variable that holds an API key or a token. Arguments are there for everyone to read.
const API_KEY: &str = "REVERIE_API_KEY";

/// What a command needs for a running mesh that has TLS or asks who calls.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Credentials {
    /// The authorities that sign the certificate of the server (PEM) [default: those the system trusts]
    #[arg(
        long,
        value_name = "FILE",
        env = "REVERIE_TLS_AUTHORITIES",
        default_value = "",
        hide_default_value = true
    )]
    tls_authorities: String,
    /// The certificate that is shown to the server, if it asks for one (PEM).
    #[arg(
        long,
        value_name = "FILE",
        env = "REVERIE_TLS_CERTIFICATE",
        default_value = "",
        hide_default_value = true
    )]
    tls_certificate: String,
    /// The private key of that certificate (PEM).
    #[arg(
        long,
        value_name = "FILE",
        env = "REVERIE_TLS_PRIVATE_KEY",
        default_value = "",
        hide_default_value = true
    )]
    tls_private_key: String,
    /// The file that holds the API key or token for the server [default: the variable `REVERIE_API_KEY` holds it]
    #[arg(
        long,
        value_name = "FILE",
        env = "REVERIE_API_KEY_FILE",
        default_value = "",
        hide_default_value = true
    )]
    api_key_file: String,
    /// Sends the API key to another host without TLS, too: where something between adds it.
    #[arg(long)]
    plaintext_api_key: bool,
}

impl Credentials {
    /// Makes all calls of this process, which go to `server`, secure.
    pub(crate) async fn use_for(&self, server: &Address) -> Result<(), Failure> {
        let settings = ClientTlsSettings {
            authorities: self.tls_authorities.clone().into(),
            certificate: self.tls_certificate.clone().into(),
            private_key: self.tls_private_key.clone().into(),
        };
        if server.is_secure() {
            if self.tls_certificate.is_empty() != self.tls_private_key.is_empty() {
                return Err("--tls-certificate and --tls-private-key belong together".into());
            }
            tls::install(ClientTls::start(&settings).await?);
        }
        let Some(shown) = self.credential()? else { return Ok(()) };
        if !server.is_secure() && !server.is_local() && !self.plaintext_api_key {
            return Err(format!(
                "{server} would get the API key for everyone on the way to read: write https://, or --plaintext-api-key where \
                 something between adds TLS"
            )
            .into());
        }
        credential::show(&shown).map_err(|_| "the API key has characters that none can have")?;
        Ok(())
    }

    fn credential(&self) -> Result<Option<String>, Failure> {
        let text = match self.api_key_file.as_str() {
            "" => std::env::var(API_KEY).unwrap_or_default(),
            file => std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?,
        };
        let text = text.trim();
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}
