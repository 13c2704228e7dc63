//! A server that keeps every body it is sent, for an exporter that speaks HTTP.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The server; it ends with the process.
#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Sink {
    /// Starts it on a free port.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, bodies) = (listener.local_addr()?, Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&bodies);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A connection that breaks is the sender's to repeat.
                thread::spawn(move || serve(&connection, &kept));
            }
        });
        Ok(Self { address, bodies })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bodies that have come so far.
    pub(super) fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers the requests of a connection, one after another.
fn serve(mut connection: &TcpStream, bodies: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8(body).map_err(io::Error::other)?;
        bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        connection
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_kept_in_order() {
        let sink = Sink::start().unwrap();
        let mut connection = TcpStream::connect(sink.address()).unwrap();
        for body in ["one", "two"] {
            write!(connection, "POST /v1/traces HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .unwrap();
            let mut answer = BufReader::new(&connection);
            let mut status = String::new();
            answer.read_line(&mut status).unwrap();
            assert_eq!(status.trim(), "HTTP/1.1 200 OK");
        }
        assert_eq!(sink.bodies(), ["one", "two"]);
    }
}
