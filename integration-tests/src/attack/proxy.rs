//! A way between two services that can be broken and mended.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Fallible;

/// What a slow way carries at a time, bytes, and the pause after it: some 20 KiB/s.
const SIP: usize = 1024;
const PAUSE: Duration = Duration::from_millis(50);

/// How well a way carries what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// As it should be.
    Sound,
    /// Connections are reset, and new ones, too.
    Cut,
    /// Nothing arrives, and nobody is told: a network that is divided. What was sent arrives once it is mended.
    Silent,
    /// Everything arrives slowly.
    Slow,
}

/// Listens on a port of its own, and carries what comes to `target`. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    _carrying: JoinSet<()>,
}

impl Proxy {
    /// Starts one to HOST:PORT.
    pub fn start(target: &str) -> Fallible<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let (address, target) = (listener.local_addr()?, target.parse()?);
        let listener = TcpListener::from_std(listener)?;
        let (wire, watched) = watch::channel(Wire::Sound);
        let mut carrying = JoinSet::new();
        carrying.spawn(carry_all(listener, target, watched));
        Ok(Self { address, wire, _carrying: carrying })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks or mends it.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn carry_all(listener: TcpListener, target: SocketAddr, wire: watch::Receiver<Wire>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Out of descriptors: some will close.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        connections.spawn(carry(client, target, wire.clone()));
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut wire: watch::Receiver<Wire>) {
    if wire.borrow().eq(&Wire::Cut) {
        return reset(&client);
    }
    passes(&mut wire).await;
    let Ok(mut server) = TcpStream::connect(target).await else { return reset(&client) };
    for stream in [&client, &server] {
        // Small messages are not held back, as between services.
        let _ = stream.set_nodelay(true);
    }
    let (mut back, mut cut) = (wire.clone(), wire.clone());
    let is_cut = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::select! {
            _ = cut.wait_for(|wire| *wire == Wire::Cut) => true,
            _ = join(pump(from_client, to_server, &mut wire), pump(from_server, to_client, &mut back)) => false,
        }
    };
    if is_cut {
        reset(&client);
        reset(&server);
    }
}

/// Makes the end of a connection, which follows, a reset.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Waits while nothing arrives.
async fn passes(wire: &mut watch::Receiver<Wire>) -> Wire {
    // Its sender lives as long as the proxy.
    wire.wait_for(|wire| *wire != Wire::Silent).await.map_or(Wire::Cut, |wire| *wire)
}

/// Carries what is sent one way until its end, and the end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, wire: &mut watch::Receiver<Wire>) {
    let mut buffer = vec![0; 64 << 10];
    'open: while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut left = &buffer[..read];
        while !left.is_empty() {
            let sip = match passes(wire).await {
                Wire::Slow => {
                    tokio::time::sleep(PAUSE).await;
                    SIP.min(left.len())
                }
                _ => left.len(),
            };
            if to.write_all(&left[..sip]).await.is_err() {
                break 'open;
            }
            left = &left[sip..];
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// Longer than anything takes that arrives.
    const WHILE: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_way_carries_is_slow_falls_silent_and_is_cut() -> Fallible<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Proxy::start(&listener.local_addr()?.to_string())?;
        let mut client = TcpStream::connect(proxy.address()).await?;
        let (mut server, _) = listener.accept().await?;
        let mut buffer = [0; 3];
        client.write_all(b"one").await?;
        server.read_exact(&mut buffer).await?;

        proxy.set(Wire::Silent);
        client.write_all(b"two").await?;
        assert!(tokio::time::timeout(WHILE, server.read_exact(&mut buffer)).await.is_err());
        proxy.set(Wire::Slow);
        server.read_exact(&mut buffer).await?;
        assert_eq!(&buffer, b"two");
        let begun = std::time::Instant::now();
        let mut much = vec![0; 8 * SIP];
        server.write_all(&much).await?;
        client.read_exact(&mut much).await?;
        assert!(begun.elapsed() >= 4 * PAUSE, "{:?}", begun.elapsed());

        proxy.set(Wire::Cut);
        let reset = |error: std::io::Error| error.kind() == ErrorKind::ConnectionReset;
        assert!(client.read(&mut buffer).await.is_err_and(reset));
        assert!(server.read(&mut buffer).await.is_err_and(reset));
        let mut refused = TcpStream::connect(proxy.address()).await?;
        assert!(refused.read(&mut buffer).await.is_err_and(reset));
        proxy.set(Wire::Sound);
        let mut again = TcpStream::connect(proxy.address()).await?;
        let (mut server, _) = listener.accept().await?;
        server.shutdown().await?;
        assert_eq!(again.read(&mut buffer).await?, 0, "its end is carried, too");
        Ok(())
    }
}
