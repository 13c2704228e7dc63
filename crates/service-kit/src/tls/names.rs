//! The names that a certificate gives its holder.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// DNS names and URIs among the subject alternative names of a certificate (RFC 5280, section 4.2.1.6). SPIFFE identities are URIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(Vec<String>);

impl Names {
    /// The names of a certificate that was verified.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Self::default() };
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Self::default() };
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        };
        Self(alternatives.value.general_names.iter().filter_map(name).collect())
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            formatter.write_str("no name")
        } else {
            formatter.write_str(&self.0.join(", "))
        }
    }
}
