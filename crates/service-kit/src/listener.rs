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

/// Where a service is to listen: `HOST:PORT`, with an IP address (`0.0.0.0:7100`, `[::]:7100`) or a host name (`localhost:7100`).
/// Port 0 lets the system choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// One IP address.
    Ip(SocketAddr),
    /// All addresses that a name has when the service starts.
    Name(String, u16),
}

/// Why a text is no address to listen on.
#[derive(Debug, thiserror::Error)]
#[error("must be HOST:PORT, such as 0.0.0.0:7100, [::]:7100 or localhost:7100 (got {text:?})")]
pub struct ListenAddressError {
    text: String,
}

impl ListenAddress {
    /// A TCP socket for each address that this stands for, at least one; see [`Listener::bind`].
    pub(crate) async fn bind(&self) -> io::Result<Vec<TcpListener>> {
        let (mut addresses, mut port) = match self {
            Self::Ip(address) => (vec![*address], address.port()),
            Self::Name(host, port) => {
                (tokio::net::lookup_host((host.as_str(), *port)).await?.collect(), *port)
            }
        };
        // IPv4 first.
        addresses.sort_unstable();
        addresses.dedup();
        let (mut bound, mut missing) = (Vec::new(), io::Error::from(io::ErrorKind::AddrNotAvailable));
        for mut address in addresses {
            // The port that the system chose for the first is the port of all.
            address.set_port(port);
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    port = listener.local_addr()?.port();
                    bound.push(listener);
                }
                Err(error) if is_missing(&error) => missing = error,
                Err(error) => return Err(error),
            }
        }
        if bound.is_empty() { Err(missing) } else { Ok(bound) }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let is_name = |host: &str| {
            // What has only digits and dots was meant to be an IPv4 address.
            host.bytes().any(|byte| byte.is_ascii_alphabetic())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        let parts = text.split_once(':').filter(|(host, _)| is_name(host));
        let name = parts.and_then(|(host, port)| Some(Self::Name(host.to_owned(), port.parse().ok()?)));
        name.ok_or_else(|| ListenAddressError { text: text.to_owned() })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Name(host, port) => write!(formatter, "{host}:{port}"),
        }
    }
}

impl<'de> serde::Deserialize<'de> for ListenAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a service accepts connections from.
#[derive(Debug)]
pub enum Listener {
    /// Bound TCP sockets, at least one.
    Tcp(Vec<TcpListener>),
    /// Streams from the same process.
    Memory(mpsc::Receiver<DuplexStream>),
}

impl Listener {
    /// Binds a TCP socket for each address that `address` stands for. Those that this machine does not have are left out, such
    /// as `::1` for `localhost` where there is no IPv6.
    ///
    /// # Errors
    /// If the name has no address, a port is taken, or nothing could be bound.
    pub async fn bind(address: &ListenAddress) -> io::Result<Self> {
        address.bind().await.map(Self::Tcp)
    }

    /// A listener within this process, and the address by which it is reached.
    pub fn memory() -> (Self, Address) {
        let (sender, receiver) = mpsc::channel(MEMORY_BACKLOG);
        (Self::Memory(receiver), Address::Memory(sender))
    }

    /// Whether other hosts may reach it.
    pub(crate) fn is_reached_from_other_hosts(&self) -> bool {
        let is_local = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
        };
        match self {
            Self::Tcp(listeners) => !listeners.iter().all(is_local),
            Self::Memory(_) => false,
        }
    }

    /// Where it listens, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Tcp(listeners) => {
                let told = |listener: &TcpListener| {
                    listener
                        .local_addr()
                        .map_or_else(|error| error.to_string(), |address| address.to_string())
                };
                listeners.iter().map(told).collect::<Vec<_>>().join(", ")
            }
            Self::Memory(_) => "memory".to_owned(),
        }
    }
}

/// Whether an address cannot be bound because this machine does not have it, or has no addresses of its kind.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// How a service is reached.
#[derive(Debug, Clone)]
pub enum Address {
    /// An `http://host:port` or `https://host:port` URI.
    Uri(http::Uri),
    /// A listener in the same process.
    Memory(mpsc::Sender<DuplexStream>),
}

impl Address {
    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Uri(uri) if uri.scheme_str() == Some("https"))
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Uri(uri) => uri.host().is_some_and(|host| {
                let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
                host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
            }),
        }
    }

    /// Opens an in-memory connection.
    pub(crate) async fn connect_memory(sender: &mpsc::Sender<DuplexStream>) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(MEMORY_BUFFER);
        sender.send(far).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

/// Why a text is not the address of a service.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a service address: write http://host:port or https://host:port")]
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
            (Some("http" | "https"), Some(_)) => Ok(Self::Uri(uri)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_has_a_host_and_a_port() {
        for text in ["0.0.0.0:7100", "[::]:7100", "[::1]:0", "127.0.0.1:65535"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap(), ListenAddress::Ip(text.parse().unwrap()));
        }
        for (text, host) in [("localhost:7100", "localhost"), ("a-1.my_net.local:7100", "a-1.my_net.local")] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address, ListenAddress::Name(host.to_owned(), 7100));
            assert_eq!(address.to_string(), text);
        }
        for wrong in [
            "",
            "7100",
            ":7100",
            "localhost",
            "localhost:",
            "localhost:70000",
            "::1:7100",
            "[::1]",
            "0.0.0:7100",
            "300.0.0.1:7100",
            "http://localhost:7100",
            "local host:7100",
            "localhost:7100 ",
        ] {
            let refused = wrong.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(refused.contains("HOST:PORT") && refused.contains(&format!("{wrong:?}")), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_name_is_every_address_that_it_has() {
        let Listener::Tcp(bound) = Listener::bind(&"localhost:0".parse().unwrap()).await.unwrap() else {
            panic!("it is no memory")
        };
        let named = tokio::net::lookup_host(("localhost", 0)).await.unwrap();
        let has = |ip| std::net::TcpListener::bind((ip, 0)).is_ok();
        let mut named: Vec<_> = named.map(|address| address.ip()).filter(|ip| has(*ip)).collect();
        named.sort_unstable();
        named.dedup();
        let local: Vec<_> = bound.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert_eq!(local.iter().map(SocketAddr::ip).collect::<Vec<_>>(), named);
        assert!(
            local.iter().all(|address| address.port() == local[0].port() && address.port() != 0),
            "{local:?}"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_bound_is_an_error() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Ip(taken.local_addr().unwrap());
        assert_eq!(Listener::bind(&address).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // An address for documentation (RFC 5737), which nobody has.
        let foreign = "192.0.2.1:0".parse().unwrap();
        assert_eq!(Listener::bind(&foreign).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        assert!(Listener::bind(&"nobody.invalid:0".parse().unwrap()).await.is_err());
    }
}
