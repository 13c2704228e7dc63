//! Certificates, keys and authorities as files hold them.

use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::telemetry::metrics;
use crate::watched::FileError;

/// The certificates of a file; at least one.
pub(super) fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(FileError::content(
            file,
            "there is no certificate in PEM (-----BEGIN CERTIFICATE-----) in it",
        )),
        Err(error) => Err(FileError::content(file, format!("it is not PEM: {error}"))),
    }
}

/// A certificate chain and its key, which belong together. Its lifetime is told as a metric, of a `server` or a `client`.
pub(super) fn identity(
    side: &'static str,
    (certificate, chain): (&Path, &[u8]),
    (private_key, key): (&Path, &[u8]),
    provider: &CryptoProvider,
) -> Result<CertifiedKey, FileError> {
    let chain = certificates(certificate, chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        FileError::content(private_key, format!("there is no private key in PEM in it: {error}"))
    })?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| FileError::content(private_key, format!("the key cannot be used: {error}")))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            if let Some((not_before, not_after)) = identity.cert.first().and_then(validity) {
                metrics::certificate(side, not_before, not_after);
            }
            Ok(identity)
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(FileError::content(private_key, format!("the key is not that of {}", certificate.display())))
        }
        Err(error) => {
            Err(FileError::content(certificate, format!("the certificate cannot be used: {error}")))
        }
    }
}

/// Since when and until when a certificate is valid (RFC 5280, section 4.1.2.5), in seconds since 1970.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The authorities of a file; at least one.
pub(super) fn authorities(file: &Path, pem: &[u8]) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(|error| {
            FileError::content(file, format!("a certificate in it is no authority: {error}"))
        })?;
    }
    Ok(roots)
}
