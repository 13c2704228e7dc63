//! Calls that end early, many at a time: the connection, and the calls of others on it, stay.
//!
//! Both ends are tried against frames written by hand, since the library at the other end does not let a test choose their order.

mod common;

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use reverie_service_kit::client::Upstream;
use reverie_service_kit::{Address, Listener, Server, Shutdown, Standing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

type Fallible<T> = Result<T, Box<dyn Error>>;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Kinds of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
/// Flags: of settings and pings, of data and headers, and of headers.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The reason of a reset.
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn read(connection: &mut TcpStream) -> Fallible<Frame> {
    let mut head = [0; 9];
    connection.read_exact(&mut head).await?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    connection.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Frame { kind: head[3], flags: head[4], stream, payload })
}

/// Each field as a literal that is not indexed (RFC 7541, section 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let literal = |(name, value): &(&str, &str)| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    fields.iter().flat_map(literal).collect()
}

fn request(path: &str) -> Vec<u8> {
    fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "test"), (":path", path)])
}

/// A connection to a server that runs, over which the preface went.
async fn connect() -> Fallible<TcpStream> {
    let settings = common::settings();
    let listener = Listener::bind(&settings.listen).await?;
    let address = listener.describe();
    let server = Server::new("test", &[], Standing::Stage, &settings, 8).await;
    tokio::spawn(server.serve(listener, Shutdown::new(), || async { Ok(()) }));
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
    Ok(connection)
}

/// Waits until the other end has answered a ping, which it does after all that came before; fails if it ends the connection.
async fn is_open(connection: &mut TcpStream) -> Fallible<()> {
    connection.write_all(&frame(PING, 0, 0, &[7; 8])).await?;
    loop {
        let frame = read(connection).await?;
        match frame.kind {
            GO_AWAY => return Err(format!("it ended: {:?}", String::from_utf8_lossy(&frame.payload)).into()),
            PING if frame.flags == ACK => return Ok(()),
            _ => {}
        }
    }
}

/// Sends data for streams that the other end has closed, again and again: it may remember those that it closed last, and answers no
/// second time before it has written the first answer.
async fn send_late(connection: &mut TcpStream, streams: &BTreeSet<u32>) -> Fallible<()> {
    let turn: Vec<u8> = streams.iter().flat_map(|stream| frame(DATA, 0, *stream, &[0; 10])).collect();
    for _ in 0..10 {
        connection.write_all(&turn).await?;
        is_open(connection).await?;
    }
    Ok(())
}

/// More than may be open at a time, since one that was reset is open no longer; all come before the server looks at the first.
#[tokio::test]
async fn calls_that_are_given_up_before_they_are_accepted() -> Fallible<()> {
    let mut connection = connect().await?;
    let calls = (0..1000).flat_map(|call| {
        let stream = 2 * call + 1;
        [frame(HEADERS, END_HEADERS, stream, &request(HEALTH)), frame(RESET, 0, stream, &CANCEL)].concat()
    });
    connection.write_all(&calls.collect::<Vec<u8>>()).await?;
    is_open(&mut connection).await
}

/// What a caller sent before it heard that the call is refused comes when the server has forgotten the call.
#[tokio::test]
async fn messages_of_calls_that_were_refused() -> Fallible<()> {
    let mut connection = connect().await?;
    let mut refused = BTreeSet::new();
    for stream in (0..200).map(|call| 2 * call + 1) {
        connection.write_all(&frame(HEADERS, END_HEADERS, stream, &request("/nothing/Here"))).await?;
        loop {
            let answer = read(&mut connection).await?;
            if answer.kind == HEADERS && answer.stream == stream {
                assert_eq!(answer.flags & END_STREAM, END_STREAM, "it is an answer without a message");
                break;
            }
        }
        refused.insert(stream);
    }
    send_late(&mut connection, &refused).await
}

/// Each PRIORITY frame that makes a stream depend on itself is an error of that stream (RFC 7540, section 5.3.1).
#[tokio::test]
async fn a_peer_that_only_makes_errors_is_sent_away() -> Fallible<()> {
    const PRIORITY: u8 = 2;
    let mut connection = connect().await?;
    let wrong = |calls: std::ops::Range<u32>| -> Vec<u8> {
        let streams = calls.map(|call| 2 * call + 1);
        streams
            .flat_map(|stream| {
                let on_itself = [&stream.to_be_bytes()[..], &[0]].concat();
                frame(PRIORITY, 0, stream, &on_itself)
            })
            .collect()
    };
    connection.write_all(&wrong(0..16_000)).await?;
    is_open(&mut connection).await?;
    // It may be sent away before it has said all.
    let _ = connection.write_all(&wrong(16_000..17_000)).await;
    assert!(is_open(&mut connection).await.is_err(), "it may go on for ever");
    Ok(())
}

/// What a server sent before it heard that its callers are gone comes when the client has forgotten the calls.
#[tokio::test]
async fn answers_to_calls_that_were_given_up() -> Fallible<()> {
    const CALLS: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address: Address = format!("http://{}", listener.local_addr()?).parse()?;
    let client = HealthClient::new(Upstream::new("test", &address).channel());
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let mut client = client.clone();
        calls.spawn(async move { client.check(HealthCheckRequest::default()).await.map(|_| ()) });
    }

    let (mut connection, _) = listener.accept().await?;
    connection.read_exact(&mut [0; PREFACE.len()]).await?;
    connection.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    let mut begun = BTreeSet::new();
    while begun.len() < CALLS {
        let frame = read(&mut connection).await?;
        if frame.kind == HEADERS {
            begun.insert(frame.stream);
        }
    }
    calls.shutdown().await;
    let mut given_up = BTreeSet::new();
    while given_up.len() < CALLS {
        let frame = read(&mut connection).await?;
        if frame.kind == RESET {
            given_up.insert(frame.stream);
        }
    }
    assert_eq!(begun, given_up);
    send_late(&mut connection, &given_up).await?;

    let mut client = client;
    let next = tokio::spawn(async move { client.check(HealthCheckRequest::default()).await });
    let answer = |stream| {
        let head = [&[0x88], &fields(&[("content-type", "application/grpc")])[..]].concat();
        let end = fields(&[("grpc-status", &(Code::NotFound as u8).to_string())]);
        [frame(HEADERS, END_HEADERS, stream, &head), frame(HEADERS, END_HEADERS | END_STREAM, stream, &end)]
            .concat()
    };
    let stream = loop {
        let frame = tokio::time::timeout(Duration::from_secs(10), read(&mut connection)).await??;
        match frame.kind {
            GO_AWAY => return Err(format!("it ended: {:?}", String::from_utf8_lossy(&frame.payload)).into()),
            HEADERS => break frame.stream,
            _ => {}
        }
    };
    connection.write_all(&answer(stream)).await?;
    let status = next.await?.err().ok_or("an answer, and no error")?;
    assert_eq!(status.code(), Code::NotFound, "{status}");
    Ok(())
}
