//! grpc-web as a browser speaks it: over HTTP/1.1, with the trailers in the body, from pages that may call.

mod common;

use std::collections::BTreeMap;
use std::error::Error;

use prost::Message as _;
use reverie_service_kit::serve::ServerSettings;
use reverie_service_kit::web::WebSettings;
use reverie_service_kit::{Listener, Server, Shutdown, Standing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

type Fallible<T> = Result<T, Box<dyn Error>>;

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const PAGE: &str = "https://app.example.com";
const WEB: &str = "application/grpc-web+proto";
/// Marks the trailers among the messages of an answer.
const TRAILERS: u8 = 0x80;

async fn start(origins: &[&str]) -> Fallible<String> {
    let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    let settings = ServerSettings { web: WebSettings { origins }, ..common::settings() };
    let listener = Listener::bind(&settings.listen).await?;
    let address = listener.describe();
    let server = Server::new("test", &[], Standing::Door, &settings, 8).await;
    tokio::spawn(server.serve(listener, Shutdown::new(), || async { Ok(()) }));
    Ok(address)
}

/// An answer over HTTP/1.1.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

async fn send(address: &str, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Fallible<Answer> {
    let length = body.len().to_string();
    let own = [("host", address), ("connection", "close"), ("content-length", &length)];
    let fields: String = own
        .iter()
        .chain(headers)
        .fold(String::new(), |fields, (name, value)| [&fields, *name, ": ", value, "\r\n"].concat());
    let request = format!("{method} {HEALTH} HTTP/1.1\r\n{fields}\r\n");
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(request.as_bytes()).await?;
    connection.write_all(body).await?;
    let mut told = Vec::new();
    connection.read_to_end(&mut told).await?;
    let end = told.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("no HTTP/1.1")?;
    let head = String::from_utf8(told[..end].to_vec())?;
    let (first, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = first.split(' ').nth(1).ok_or("no status")?.parse()?;
    let headers: BTreeMap<_, _> = fields
        .split("\r\n")
        .filter_map(|field| field.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = told.split_off(end + 4);
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        body = unchunked(&body)?;
    }
    Ok(Answer { status, headers, body })
}

/// A body without the lengths of its chunks (RFC 9112, section 7.1).
fn unchunked(mut body: &[u8]) -> Fallible<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|bytes| bytes == b"\r\n").ok_or("a chunk without a length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line])?, 16)?;
        if length == 0 {
            return Ok(whole);
        }
        body = &body[line + 2..];
        whole.extend_from_slice(body.get(..length).ok_or("half a chunk")?);
        body = &body[length + 2..];
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// The messages of an answer, and its trailers.
fn parts(mut body: &[u8]) -> Fallible<(Vec<Vec<u8>>, String)> {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while let [kind, a, b, c, d, rest @ ..] = body {
        let (message, after) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if *kind == TRAILERS {
            trailers = String::from_utf8(message.to_vec())?;
        } else {
            messages.push(message.to_vec());
        }
        body = after;
    }
    Ok((messages, trailers))
}

fn ask() -> Vec<u8> {
    framed(&HealthCheckRequest::default().encode_to_vec())
}

#[tokio::test]
async fn a_page_may_call_and_read_the_answer() -> Fallible<()> {
    let address = start(&["https://other.example.com", PAGE]).await?;
    let asked = [
        ("origin", PAGE),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,grpc-timeout,x-grpc-web"),
    ];
    let may = send(&address, "OPTIONS", &asked, &[]).await?;
    assert_eq!(may.status, 200);
    assert_eq!(may.headers["access-control-allow-origin"], PAGE);
    assert_eq!(may.headers["access-control-allow-methods"], "POST");
    assert_eq!(may.headers["access-control-allow-headers"], asked[2].1);
    assert!(!may.headers.contains_key("access-control-allow-credentials"), "no cookies");

    let called = [("origin", PAGE), ("content-type", WEB), ("x-grpc-web", "1"), ("grpc-timeout", "5S")];
    let answer = send(&address, "POST", &called, &ask()).await?;
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, WEB));
    assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
    let (messages, trailers) = parts(&answer.body)?;
    assert_eq!(HealthCheckResponse::decode(&messages[0][..])?.status(), ServingStatus::Serving);
    assert!(trailers.contains("grpc-status:0"), "{trailers:?}");

    // What is wrong is told as to any other caller, and can be read by the page.
    let broken = send(&address, "POST", &called, &framed(&[0xff; 9])).await?;
    assert_eq!(broken.headers["grpc-status"], "3", "INVALID_ARGUMENT");
    assert!(broken.headers["access-control-expose-headers"].contains("grpc-status"));
    Ok(())
}

#[tokio::test]
async fn pages_of_other_origins_may_not() -> Fallible<()> {
    let address = start(&[PAGE]).await?;
    for origin in
        ["https://evil.example.com", "https://app.example.com.evil.com", "http://app.example.com", "null"]
    {
        let asked = [("origin", origin), ("access-control-request-method", "POST")];
        let may = send(&address, "OPTIONS", &asked, &[]).await?;
        assert!(!may.headers.contains_key("access-control-allow-origin"), "{origin}");
        let called = send(&address, "POST", &[("origin", origin), ("content-type", WEB)], &ask()).await?;
        assert_eq!((called.status, called.headers["grpc-status"].as_str()), (403, "7"), "{origin}");
        assert!(!called.headers.contains_key("access-control-allow-origin"), "{origin}");
    }
    let everywhere = start(&["*"]).await?;
    let from_anywhere = [("origin", "https://any.example"), ("content-type", WEB)];
    let called = send(&everywhere, "POST", &from_anywhere, &ask()).await?;
    assert_eq!(called.headers["access-control-allow-origin"], "*");
    Ok(())
}

#[tokio::test]
async fn what_is_no_grpc_web_is_refused() -> Fallible<()> {
    let address = start(&["*"]).await?;
    let long = "x".repeat(20_000);
    let answer = send(&address, "POST", &[("content-type", WEB), ("x-long", &long)], &ask()).await?;
    assert_eq!((answer.status, answer.headers["grpc-status"].as_str()), (431, "8"));
    for (method, content_type, status) in [
        ("POST", "application/json", 400),
        ("POST", "application/grpc", 400),
        ("GET", WEB, 405),
        ("PUT", WEB, 405),
    ] {
        let answer = send(&address, method, &[("content-type", content_type)], &ask()).await?;
        assert_eq!(answer.status, status, "{method} {content_type}");
    }
    Ok(())
}

/// As long as no origin is listed, nothing but HTTP/2 is spoken.
#[tokio::test]
async fn without_origins_there_is_no_grpc_web() -> Fallible<()> {
    let address = start(&[]).await?;
    let answer = send(&address, "POST", &[("content-type", WEB)], &ask()).await;
    assert!(answer.is_err());
    Ok(())
}
