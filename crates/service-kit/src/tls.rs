//! TLS between services and at the public door: TLS 1.3, certificates from files that are read again when they change, and mutual TLS
//! by which a service knows who calls it.

mod client;
mod files;
mod names;
mod server;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use client::connector;
pub use client::{ClientTls, install};
pub(crate) use names::Names;
pub(crate) use server::{Callers, Greeting, ServerTls};
pub use settings::{ClientSettings, ClientTlsSettings, ServerTlsSettings};

/// What is spoken inside of TLS (RFC 9113, section 3.1).
const HTTP_2: &[u8] = b"h2";
/// The same for pages in browsers that have no HTTP/2.
const HTTP_1: &[u8] = b"http/1.1";
