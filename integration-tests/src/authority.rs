//! Certificates for tests, as an authority of a mesh's own would sign them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;

use crate::Fallible;

/// An authority, and the folder that has its certificate and those that it signed.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Fallible<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("authority.pem"), issuer.pem())?;
        Ok(Self { issuer, folder })
    }

    /// Its certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Signs a certificate for a service on this machine that is called `name`; gives its file and that of its key.
    pub fn signs(&self, name: &str) -> Fallible<(PathBuf, PathBuf)> {
        let mut params = CertificateParams::new(["localhost".to_owned(), name.to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let [crt, pem] = ["crt", "key"].map(|ending| self.folder.path().join(format!("{name}.{ending}")));
        fs::write(&crt, certificate.pem())?;
        fs::write(&pem, key.serialize_pem())?;
        Ok((crt, pem))
    }

    /// Settings of the service `name` that speaks TLS both ways.
    pub fn settings(&self, name: &str) -> Fallible<Vec<String>> {
        let (certificate, key) = self.signs(name)?;
        let set = |setting: &str, file: &Path| format!("{setting}={}", file.display());
        Ok(vec![
            set("server.tls.certificate", &certificate),
            set("server.tls.private_key", &key),
            set("server.tls.client_authorities", &self.file()),
            set("client.tls.authorities", &self.file()),
            set("client.tls.certificate", &certificate),
            set("client.tls.private_key", &key),
        ])
    }
}
