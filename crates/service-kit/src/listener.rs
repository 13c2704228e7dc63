//! Where a service listens and how it is reached: a TCP port between processes, an in-memory stream within one. Both
//! carry the same HTTP/2 and the same gRPC.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Bytes an in-memory stream holds before its writer waits.
const MEMORY_BUFFER: usize = 1 << 20;
/// In-memory connections that may wait to be accepted.
const MEMORY_BACKLOG: usize = 16;

/// What a service accepts connections from.
#[derive(Debug)]
pub enum Listener {
    /// A bound TCP socket.
    Tcp(TcpListener),
    /// Streams from the same process.
    Memory(mpsc::Receiver<DuplexStream>),
}

impl Listener {
    /// Binds a TCP socket. Port 0 lets the system choose.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    /// A listener within this process, and the address by which it is reached.
    pub fn memory() -> (Self, Address) {
        let (sender, receiver) = mpsc::channel(MEMORY_BACKLOG);
        (Self::Memory(receiver), Address::Memory(sender))
    }

    /// Where it listens, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string()),
            Self::Memory(_) => "memory".to_owned(),
        }
    }
}

/// How a service is reached.
#[derive(Debug, Clone)]
pub enum Address {
    /// An `http://host:port` URI.
    Uri(http::Uri),
    /// A listener in the same process.
    Memory(mpsc::Sender<DuplexStream>),
}

impl Address {
    /// Opens an in-memory connection.
    pub(crate) async fn connect_memory(sender: &mpsc::Sender<DuplexStream>) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(MEMORY_BUFFER);
        sender.send(far).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

/// Why a text is not the address of a service.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a service address: write http://host:port")]
pub struct AddressError {
    text: String,
}

impl AddressError {
    pub(crate) fn of(text: &str) -> Self {
        Self { text: text.to_owned() }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AddressError::of(text);
        let uri: http::Uri = text.parse().map_err(|_| error())?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(_)) => Ok(Self::Uri(uri)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => uri.fmt(formatter),
            Self::Memory(_) => formatter.write_str("memory"),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
