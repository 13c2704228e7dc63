//! A server as a stranger meets it: what is no gRPC, what is no protobuf, and what reflection lists.

mod common;

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use reverie_service_kit::client::Upstream;
use reverie_service_kit::{Address, Listener, Server, Shutdown, Standing};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt as _;
use tower::{Service as _, ServiceExt as _};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The contracts that the server says it serves: one of those that are compiled in.
const NAMES: &[&str] = &["reverie.generation.v1.GenerationService"];
const HEALTH: &str = "/grpc.health.v1.Health/Check";

async fn start() -> Fallible<Address> {
    let server = Server::new("test", NAMES, Standing::Stage, &common::settings(), 8).await;
    let (listener, address) = Listener::memory();
    tokio::spawn(server.serve(listener, Shutdown::new(), || async { Ok(()) }));
    Ok(address)
}

/// The answer to a body of this content type: its HTTP status and, of its headers or trailers, its gRPC status.
async fn post(address: &Address, content_type: Option<&str>, body: &[u8]) -> Fallible<(u16, Status)> {
    let content_type = content_type.map(|content_type| ("content-type", content_type));
    send(address, content_type.as_slice(), Body::new(Full::new(Bytes::copy_from_slice(body)))).await
}

/// The same to a message that may be packed by `encoding`, and comes in parts of `size` bytes.
async fn post_packed(address: &Address, encoding: &str, body: &[u8], size: usize) -> Fallible<Status> {
    let parts: Vec<_> = body.chunks(size).map(Bytes::copy_from_slice).collect();
    let parts = parts.into_iter().map(|part| Ok::<_, Status>(http_body::Frame::data(part)));
    let body = Body::new(http_body_util::StreamBody::new(futures::stream::iter(parts)));
    let headers = [("content-type", "application/grpc"), ("grpc-encoding", encoding)];
    Ok(send(address, &headers, body).await?.1)
}

async fn send(address: &Address, headers: &[(&str, &str)], body: Body) -> Fallible<(u16, Status)> {
    let mut request = http::Request::post(format!("http://memory{HEALTH}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body)?;
    let mut channel = Upstream::new("test", address).channel();
    let response = channel
        .ready()
        .await
        .map_err(|error| error.to_string())?
        .call(request)
        .await
        .map_err(|error| error.to_string())?;
    let (http_status, headers) = (response.status().as_u16(), response.headers().clone());
    let trailers = response.into_body().collect().await?.trailers().cloned().unwrap_or_default();
    let status = Status::from_header_map(&headers).or_else(|| Status::from_header_map(&trailers));
    Ok((http_status, status.ok_or("there is no gRPC status")?))
}

/// A message as gRPC frames it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

#[tokio::test]
async fn what_cannot_be_decoded_is_the_callers_doing() -> Fallible<()> {
    let address = start().await?;
    let sound = post(&address, Some("application/grpc"), &framed(b"")).await?;
    assert_eq!((sound.0, sound.1.code()), (200, Code::Ok));
    let cases: [(&str, Vec<u8>); 6] = [
        ("no protobuf", framed(&[0xff; 9])),
        ("a field of another type", framed(&[0x08, 1])),
        ("a string that is no text", framed(&[0x0a, 2, 0xc3, 0x28])),
        ("no message at all", Vec::new()),
        ("half a message", framed(&[0x0a; 40])[..20].to_vec()),
        ("compressed, and nobody says how", [&[1], &framed(b"")[1..]].concat()),
    ];
    for (what, body) in cases {
        let (_, status) = post(&address, Some("application/grpc"), &body).await?;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert_eq!(
            status.get_details_error_info().ok_or("no details")?.reason,
            "UNDECODABLE",
            "{what}: {status}"
        );
    }
    Ok(())
}

/// As gRPC has it; no retry helps.
#[tokio::test]
async fn a_message_that_is_too_large_is_told_so() -> Fallible<()> {
    let address = start().await?;
    // Its length comes first, and is enough to say no.
    let length = (5_u32 << 20).to_be_bytes();
    let (_, status) =
        post(&address, Some("application/grpc"), &[&[0], &length[..], &[0; 9]].concat()).await?;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.get_details_error_info().ok_or("no details")?.reason, "TOO_LARGE");
    assert!(status.message().contains("5242880") && status.get_details_retry_info().is_none(), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_no_grpc_are_refused() -> Fallible<()> {
    let address = start().await?;
    for taken in ["application/grpc", "application/grpc+proto", "Application/gRPC", "application/grpc; v=1"] {
        let (http_status, status) = post(&address, Some(taken), &framed(b"")).await?;
        assert_eq!((http_status, status.code()), (200, Code::Ok), "{taken}");
    }
    for refused in [
        Some("application/grpc-web"),
        Some("application/grpc-web+proto"),
        Some("application/grpc-web-text"),
        Some("application/grpc+json"),
        Some("application/json"),
        Some("application/x-protobuf"),
        Some("text/plain; application/grpc"),
        Some(""),
        None,
    ] {
        let (http_status, status) = post(&address, refused, &framed(b"")).await?;
        assert_eq!((http_status, status.code()), (415, Code::InvalidArgument), "{refused:?}: {status}");
        assert!(status.message().contains("must be application/grpc or application/grpc+proto"), "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_nothing_else() -> Fallible<()> {
    let address = start().await?;
    let channel = Upstream::new("test", &address).channel();
    let list = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(futures::stream::iter([list])).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response);
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let listed: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
    let everywhere = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    let expected = NAMES.iter().chain(&everywhere).map(ToString::to_string).collect();
    assert_eq!(listed, expected);
    // A client such as k6 asks for all that is listed, and stops where one is missing.
    let describe = |name: &String| ServerReflectionRequest {
        message_request: Some(MessageRequest::FileContainingSymbol(name.clone())),
        ..Default::default()
    };
    let asked: Vec<_> = listed.iter().map(describe).collect();
    let mut answers = client.server_reflection_info(futures::stream::iter(asked)).await?.into_inner();
    for name in &listed {
        let answer = answers.message().await.map_err(|status| format!("{name}: {status}"))?;
        let answer = answer.and_then(|answer| answer.message_response);
        let is_described = matches!(answer, Some(MessageResponse::FileDescriptorResponse(_)));
        assert!(is_described, "{name}: {answer:?}");
    }
    // Health knows the same names.
    for name in NAMES {
        let request = HealthCheckRequest { service: (*name).to_owned() };
        HealthClient::new(channel.clone()).check(request).await?;
    }
    Ok(())
}

fn gzip(message: &[u8]) -> Fallible<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(message)?;
    Ok(encoder.finish()?)
}

fn zstd(message: &[u8]) -> Fallible<Vec<u8>> {
    let mut packed = vec![0; zstd_safe::compress_bound(message.len())];
    let size = zstd_safe::compress(&mut packed[..], message, 3).map_err(zstd_safe::get_error_name)?;
    Ok(packed[..size].to_vec())
}

/// As those pack who do not know the size beforehand: their readers have to keep a window.
fn zstd_of_unknown_size(message: &[u8]) -> Fallible<Vec<u8>> {
    let mut context = zstd_safe::CCtx::create();
    let mut packed = Vec::with_capacity(1 << 20);
    let mut output = zstd_safe::OutBuffer::around(&mut packed);
    let mut input = zstd_safe::InBuffer::around(message);
    while input.pos() < message.len() {
        context.compress_stream(&mut output, &mut input).map_err(zstd_safe::get_error_name)?;
    }
    while context.end_stream(&mut output).map_err(zstd_safe::get_error_name)? > 0 {}
    Ok(packed)
}

/// A packed message as gRPC frames it.
fn framed_packed(packed: &[u8]) -> Vec<u8> {
    [&[1], &framed(packed)[1..]].concat()
}

/// Asks for a service of this name, which is not there.
fn check(name_bytes: usize) -> Vec<u8> {
    HealthCheckRequest { service: "x".repeat(name_bytes) }.encode_to_vec()
}

type Pack = fn(&[u8]) -> Fallible<Vec<u8>>;

const PACKERS: [(&str, Pack); 3] = [("gzip", gzip), ("zstd", zstd), ("zstd", zstd_of_unknown_size)];

#[tokio::test]
async fn messages_may_come_packed() -> Fallible<()> {
    let address = start().await?;
    for (encoding, pack) in PACKERS {
        for size in [1, 7, 1 << 20] {
            let sound = post_packed(&address, encoding, &framed_packed(&pack(b"")?), size).await?;
            assert_eq!(sound.code(), Code::Ok, "{encoding}: {sound}");
            // Also where what is unpacked just fills the chunks that it is made in: a name of so many bytes takes four more.
            for name in [9, 100_000, (64 << 10) - 4, (128 << 10) - 4, (128 << 10) - 3] {
                let packed = framed_packed(&pack(&check(name))?);
                let read = post_packed(&address, encoding, &packed, size).await?;
                assert_eq!(read.code(), Code::NotFound, "{encoding}, {name}: {read}");
            }
            // Each message says for itself whether it is packed.
            let plain = post_packed(&address, encoding, &framed(&check(9)), size).await?;
            assert_eq!(plain.code(), Code::NotFound, "{encoding}: {plain}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn packing_gets_round_no_limit() -> Fallible<()> {
    let address = start().await?;
    for (encoding, pack) in PACKERS {
        for bytes in [5 << 20, 100 << 20] {
            let bomb = framed_packed(&pack(&vec![0; bytes])?);
            assert!(bomb.len() < 110_000);
            let status = post_packed(&address, encoding, &bomb, 1 << 14).await?;
            assert_eq!(status.code(), Code::ResourceExhausted, "{encoding}: {status}");
        }
    }
    // A frame that asks its reader to keep 128 MiB, and has one byte.
    let wide = [0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 1 | (1 << 3), 0, 0, 7];
    let status = post_packed(&address, "zstd", &framed_packed(&wide), 64).await?;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("memory"), "{status}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_the_callers_doing() -> Fallible<()> {
    let address = start().await?;
    let message = check(3000);
    for (encoding, pack) in PACKERS {
        let packed = pack(&message)?;
        let with_more = [&packed[..], b"and more"].concat();
        for wrong in [&packed[..packed.len() - 1], &packed[1..], &with_more, &message, b""] {
            let status = post_packed(&address, encoding, &framed_packed(wrong), 64).await?;
            assert_eq!(status.code(), Code::InvalidArgument, "{encoding}: {status}");
            let reason = status.get_details_error_info().ok_or("no details")?.reason;
            assert_eq!(reason, "UNDECODABLE", "{encoding}: {status}");
        }
    }
    let status = post_packed(&address, "snappy", &framed_packed(&message), 64).await?;
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    let told = status.metadata().get("grpc-accept-encoding").ok_or("nothing is told")?;
    assert_eq!(told.to_str()?, "identity,gzip,zstd");
    Ok(())
}
