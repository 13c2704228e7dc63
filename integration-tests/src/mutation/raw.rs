//! Calls with messages that are bytes, whether they are messages or not.

use bytes::{Buf as _, BufMut as _, Bytes};
use reverie_service_kit::Context;
use reverie_service_kit::client::Channel;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};

/// Calls the method at `path`, `/package.Service/Method`, with `message`, and gives all messages of its answer.
pub async fn call(
    channel: Channel,
    path: &'static str,
    message: Bytes,
    context: Context,
) -> Result<Vec<Bytes>, Status> {
    let mut client = Grpc::new(channel).max_decoding_message_size(64 << 20);
    client.ready().await.map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
    // An answer of one message is a stream of one.
    let request = context.outgoing(message);
    let mut answer =
        client.server_streaming(request, PathAndQuery::from_static(path), Raw).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = answer.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// Leaves messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
