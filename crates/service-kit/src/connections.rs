//! Accepting connections: at most so many, each with a time limit for saying that it speaks HTTP/2.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::future::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::gate::{Gate, Peer};
use crate::serve::ServerSettings;
use crate::tls::{Greeting, Names, ServerTls};
use crate::{Listener, Shutdown};

/// What an HTTP/2 client says first (RFC 9113, section 3.4) has so many bytes.
const PREFACE_BYTES: usize = 24;
/// Wait after an accept that failed for want of something, such as file descriptors; doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The same trouble is told no more often.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Either kind of stream that a listener accepts.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl Stream for TcpStream {}
impl Stream for DuplexStream {}
impl Stream for TlsStream<TcpStream> {}

/// What a connection's bytes go through.
enum Wire {
    Plain(Box<dyn Stream>),
    /// It has to speak TLS first.
    Greeting(Box<Greeting>),
    Secure(Box<TlsStream<TcpStream>>),
}

/// One connection: a place among those open, closed when the server says so.
pub(crate) struct Connection {
    wire: Wire,
    peer: Peer,
    /// Until it has said that it speaks HTTP/2.
    handshake: Option<Handshake>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
    _gone: DropGuard,
}

/// What the server holds of a connection besides the connection.
pub(crate) struct Hold {
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// Closes the connection at once.
    pub(crate) closing: Shutdown,
    /// Cancelled when the connection is gone.
    pub(crate) gone: Shutdown,
    /// Whether it comes from another process, so that another replica could serve its caller as well.
    pub(crate) is_remote: bool,
}

struct Handshake {
    missing: usize,
    late: Pin<Box<Sleep>>,
    leaving: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Where connections come from, and what they are held to.
pub(crate) struct Door {
    listener: Listener,
    tls: Option<ServerTls>,
    gate: Gate,
    /// Closes every connection at once.
    closing: Shutdown,
    places: Arc<Semaphore>,
    max_connections: usize,
    handshake: Duration,
    trouble: Trouble,
}

impl Door {
    /// The door to `listener`, whose connections speak `tls` if they come from outside; `closing` closes every one of them.
    pub(crate) fn new(
        listener: Listener,
        tls: Option<ServerTls>,
        settings: &ServerSettings,
        gate: Gate,
        closing: Shutdown,
    ) -> Self {
        let max_connections = settings.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            listener,
            tls,
            gate,
            closing,
            places: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            handshake: Duration::from_secs(settings.handshake_seconds),
            trouble: Trouble::default(),
        }
    }

    /// The next connection; none where nobody can connect any more.
    pub(crate) async fn next(&mut self) -> Option<(Connection, Hold)> {
        loop {
            let (wire, is_remote) = match &mut self.listener {
                Listener::Tcp(listeners) => {
                    let stream = accept_tcp(listeners, &mut self.trouble).await;
                    let wire = match &self.tls {
                        Some(tls) => Wire::Greeting(Box::new(tls.accept(stream))),
                        None => Wire::Plain(Box::new(stream)),
                    };
                    (wire, true)
                }
                Listener::Memory(receiver) => (Wire::Plain(Box::new(receiver.recv().await?)), false),
            };
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => {
                    let hold = Hold {
                        peer: self.gate.peer(is_remote),
                        closing: self.closing.child_token(),
                        gone: Shutdown::new(),
                        is_remote,
                    };
                    let connection = Connection {
                        wire,
                        peer: hold.peer.clone(),
                        handshake: Some(Handshake {
                            missing: PREFACE_BYTES,
                            late: Box::pin(tokio::time::sleep(self.handshake)),
                            leaving: Box::pin(self.gate.leaving.clone().cancelled_owned()),
                        }),
                        closed: Box::pin(hold.closing.clone().cancelled_owned()),
                        _place: place,
                        _gone: hold.gone.clone().drop_guard(),
                    };
                    return Some((connection, hold));
                }
                // Dropped, so that the caller hears of it at once.
                Err(_) => {
                    if self.trouble.is_to_be_told() {
                        tracing::warn!(
                            limit = self.max_connections,
                            "connections are refused: server.max_connections are open"
                        );
                    }
                }
            }
        }
    }
}

/// The next connection to any of `listeners`. Where none can be accepted, it waits, longer each time.
pub(crate) async fn accept_tcp(listeners: &[TcpListener], trouble: &mut Trouble) -> TcpStream {
    let mut wait = FIRST_WAIT;
    loop {
        let accepted = poll_fn(|context| {
            let mut ready = listeners.iter().map(|listener| listener.poll_accept(context));
            ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        match accepted.await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
                return stream;
            }
            // Of the connection that was to be accepted, which is gone.
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                if trouble.is_to_be_told() {
                    tracing::warn!(%error, "no connection can be accepted; trying again");
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Trouble that may last: told when it begins, and every now and then.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    told: Option<Instant>,
}

impl Trouble {
    fn is_to_be_told(&mut self) -> bool {
        let is_due = self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if is_due {
            self.told = Some(Instant::now());
        }
        is_due
    }
}

impl Handshake {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.late.poll_unpin(context).is_ready() || self.leaving.poll_unpin(context).is_ready()
    }
}

impl Connection {
    /// What its bytes go through, once they may: it is open, and has spoken TLS if it has to.
    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Stream>>> {
        if self.closed.poll_unpin(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.handshake.as_mut().is_some_and(|handshake| handshake.is_over(context)) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Wire::Greeting(greeting) = &mut self.wire {
            let stream = ready!(greeting.poll_unpin(context)).inspect_err(tell_of_handshake)?;
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            if let Some(certificate) = shown {
                self.peer.is_named(Names::of(certificate));
            }
            self.wire = Wire::Secure(Box::new(stream));
        }
        Poll::Ready(Ok(match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream.as_mut()),
            Wire::Secure(stream) => Pin::new(stream.as_mut()),
            Wire::Greeting(_) => return Poll::Pending,
        }))
    }
}

/// Tells of TLS handshakes that failed, every now and then: a caller with the wrong certificate tries again and again. One that leaves
/// at once is a probe of a load balancer.
fn tell_of_handshake(error: &io::Error) {
    static TROUBLE: Mutex<Trouble> = Mutex::new(Trouble { told: None });
    let is_probe = error.kind() == io::ErrorKind::UnexpectedEof;
    if !is_probe && TROUBLE.lock().unwrap_or_else(PoisonError::into_inner).is_to_be_told() {
        tracing::warn!(%error, "a TLS handshake failed");
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(ready!(self.poll_stream(context))?.poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if let Some(handshake) = &mut self.handshake {
            handshake.missing = handshake.missing.saturating_sub(read);
            if handshake.missing == 0 {
                self.handshake = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_stream(context))?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_stream(context))?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Greeting(_) | Wire::Secure(_) => true,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(context))?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Secure(stream) => Pin::new(stream).poll_shutdown(context),
            // Nothing was said that had to be ended.
            Wire::Greeting(_) => Poll::Ready(Ok(())),
        }
    }
}
