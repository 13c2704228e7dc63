//! TLS of those who call.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tower::Service;

use super::files::{authorities, certificates, identity};
use super::{ClientTlsSettings, HTTP_2};
use crate::watched::{Build, FileError, Watched};

/// A connection that speaks TLS.
pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// How a process speaks TLS with the services that it calls; cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<Watched<ClientConfig>>);

impl ClientTls {
    /// Reads authorities and, if there is one, the certificate.
    ///
    /// # Errors
    /// If a file cannot be read, or is not what it should be.
    pub async fn start(settings: &ClientTlsSettings) -> Result<Self, FileError> {
        Self::of(Configured { settings: settings.clone(), pinned: None }).await
    }

    /// Believes the holder of the certificate in `pinned` alone, whatever name it has: for a service that asks itself.
    pub(crate) async fn to_itself(settings: &ClientTlsSettings, pinned: PathBuf) -> Result<Self, FileError> {
        Self::of(Configured { settings: settings.clone(), pinned: Some(pinned) }).await
    }

    async fn of(configured: Configured) -> Result<Self, FileError> {
        Ok(Self(Arc::new(Watched::start(configured).await?)))
    }
}

/// What this process was set up with.
static INSTALLED: OnceLock<ClientTls> = OnceLock::new();

/// Makes `tls` that of every connection of this process to an `https://` address. The first one stays.
pub fn install(tls: ClientTls) {
    let _ = INSTALLED.set(tls);
}

/// What was installed; if nothing was, the authorities of the system are believed, as they are now.
async fn installed() -> Result<ClientTls, FileError> {
    static OF_THE_SYSTEM: OnceCell<ClientTls> = OnceCell::const_new();
    if let Some(tls) = INSTALLED.get() {
        return Ok(tls.clone());
    }
    let start = async || ClientTls::start(&ClientTlsSettings::default()).await;
    OF_THE_SYSTEM.get_or_try_init(start).await.cloned()
}

/// Makes connections to `address`, HOST:PORT, that speak TLS with who must be `name`: by `tls`, or by what is installed.
pub(crate) fn connector(
    tls: Option<ClientTls>,
    name: String,
    address: String,
) -> impl Service<http::Uri, Response = TokioIo<TlsStream>, Error = io::Error, Future: Send> + Clone + Send + 'static
{
    tower::service_fn(move |_: http::Uri| {
        let (tls, name, address) = (tls.clone(), name.clone(), address.clone());
        async move {
            let tls = match tls {
                Some(tls) => tls,
                None => installed().await.map_err(io::Error::other)?,
            };
            connect(&tls, &name, &address).await.map(TokioIo::new)
        }
    })
}

async fn connect(tls: &ClientTls, name: &str, address: &str) -> io::Result<TlsStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let server = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a host")))?;
    let connector = TlsConnector::from(tls.0.current());
    connector.connect(server, stream).await.map_err(|error| explained(error, name))
}

/// Says what failed in TLS and what can be done about it.
fn explained(error: io::Error, name: &str) -> io::Error {
    let kind = error.kind();
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match tls {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "it has expired: renew it".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "it is not valid yet: is the clock right?".to_owned()
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "nobody who is believed has signed it: name its authority in client.tls.authorities (--tls-authorities)"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("it is for another name ({why})")
            }
            _ if format!("{why:?}").contains("CaUsedAsEndEntity") => {
                "it is that of an authority: let the authority sign one for the service".to_owned()
            }
            _ => why.to_string(),
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            return io::Error::new(kind, format!("{name} does not speak TLS there: write http://"));
        }
        Some(error) => return io::Error::new(kind, format!("no TLS with {name}: {error}")),
        None if kind == io::ErrorKind::UnexpectedEof => {
            return io::Error::new(
                kind,
                format!("{name} ended the connection in the middle of the TLS handshake"),
            );
        }
        None => return error,
    };
    io::Error::new(kind, format!("the certificate of {name} is refused: {why}"))
}

/// Builds the configuration of a client from the files that its settings name.
struct Configured {
    settings: ClientTlsSettings,
    /// The only certificate that is believed.
    pinned: Option<PathBuf>,
}

impl Configured {
    /// The file that says whom it believes; an empty path where the system says it.
    fn believed(&self) -> &PathBuf {
        self.pinned.as_ref().unwrap_or(&self.settings.authorities)
    }
}

impl Build for Configured {
    type Built = ClientConfig;

    fn files(&self) -> Vec<PathBuf> {
        let ClientTlsSettings { certificate, private_key, .. } = &self.settings;
        let files = [self.believed(), certificate, private_key];
        files.into_iter().filter(|file| !file.as_os_str().is_empty()).cloned().collect()
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<ClientConfig, FileError> {
        let ClientTlsSettings { certificate, private_key, .. } = &self.settings;
        let believed = self.believed();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unusable = |error: &dyn fmt::Display| FileError::content(believed, error.to_string());
        let mut contents = contents.iter();
        let pem = (!believed.as_os_str().is_empty()).then(|| contents.next()).flatten();
        let verifier: Arc<dyn ServerCertVerifier> = match (pem, &self.pinned) {
            (Some(pem), Some(pinned)) => {
                let only = certificates(pinned, pem)?.swap_remove(0);
                Arc::new(Pinned { only, algorithms: provider.signature_verification_algorithms })
            }
            (pem, _) => {
                let roots = pem.map_or_else(system_authorities, |pem| authorities(believed, pem))?;
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| unusable(&error))?
            }
        };
        let own = match (contents.next(), contents.next()) {
            (Some(chain), Some(key)) => {
                Some(identity("client", (certificate, chain), (private_key, key), &provider)?)
            }
            _ => None,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match own {
            Some(own) => {
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        // Certificates are checked for every connection.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// The authorities that the system believes.
fn system_authorities() -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = "the system has no authorities to believe: name a file in client.tls.authorities";
        return Err(FileError::content(std::path::Path::new("client.tls.authorities"), why));
    }
    Ok(roots)
}

/// Believes one certificate, of any name: its holder has to have the key.
#[derive(Debug)]
struct Pinned {
    only: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.only {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
