//! Messages that come packed (gRPC over HTTP/2, "Message-Encoding"): they are unpacked before anything counts or reads them, so that packing
//! gets round no limit.

use std::io::{self, Write};
use std::mem;

use bytes::Bytes;
use flate2::write::GzDecoder;
use http::{HeaderMap, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use crate::Refusal;
use crate::admission::Permit;
use crate::client::MAX_INTERNAL_MESSAGE;

/// Tells callers what they may send.
pub(super) const ACCEPTED: (&str, HeaderValue) =
    ("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,zstd"));
const ENCODING: &str = "grpc-encoding";
/// Whether a message is packed, and its length.
const PREFIX: usize = 5;
/// Zstandard keeps so much of what came before: 8 MiB, which every decoder should have (RFC 8878, "Window Descriptor").
const WINDOW_LOG: u32 = 23;
const CHUNK: usize = 64 << 10;

#[derive(Debug, Clone, Copy)]
enum Encoding {
    Gzip,
    Zstd,
}

/// Unpacks the messages of one request.
pub(super) struct Unpacker {
    encoding: Encoding,
    permit: Permit,
    prefix: Vec<u8>,
    message: Message,
}

/// What is known of the message that is being read.
enum Message {
    /// Its prefix has not come in whole.
    Unknown,
    /// As it is; so many bytes are missing.
    Plain(usize),
    /// The same, and what was unpacked so far.
    Packed(usize, Box<Decoder>),
}

impl Unpacker {
    /// For a request whose headers say that its messages may be packed; they say so no longer. What it unpacks counts for `permit`.
    pub(super) fn of(headers: &mut HeaderMap, permit: &Permit) -> Option<Self> {
        let encoding = match headers.get(ENCODING)?.as_bytes() {
            b"gzip" => Encoding::Gzip,
            b"zstd" => Encoding::Zstd,
            _ => return None,
        };
        headers.remove(ENCODING);
        Some(Self { encoding, permit: permit.clone(), prefix: Vec::new(), message: Message::Unknown })
    }

    /// Takes the next bytes of the request, and gives those of messages that are not packed.
    pub(super) fn unpack(&mut self, mut data: &[u8]) -> Result<Bytes, Refusal> {
        let mut unpacked = Vec::new();
        // A message may end with its prefix.
        while !data.is_empty() || !matches!(self.message, Message::Unknown) {
            match mem::replace(&mut self.message, Message::Unknown) {
                Message::Unknown => {
                    let missing = (PREFIX - self.prefix.len()).min(data.len());
                    self.prefix.extend_from_slice(take(&mut data, missing));
                    if self.prefix.len() == PREFIX {
                        self.message = self.begin(&mut unpacked)?;
                    }
                }
                Message::Plain(left) => {
                    let part = take(&mut data, left);
                    self.permit.add_bytes(part.len())?;
                    unpacked.extend_from_slice(part);
                    if left > part.len() {
                        self.message = Message::Plain(left - part.len());
                        break;
                    }
                }
                Message::Packed(left, mut decoder) => {
                    let part = take(&mut data, left);
                    decoder.feed(part)?;
                    if left > part.len() {
                        self.message = Message::Packed(left - part.len(), decoder);
                        break;
                    }
                    let mut message = decoder.end()?;
                    if unpacked.is_empty() {
                        unpacked = message;
                    } else {
                        unpacked.append(&mut message);
                    }
                }
            }
        }
        Ok(unpacked.into())
    }

    /// Begins the message whose prefix has come.
    fn begin(&mut self, unpacked: &mut Vec<u8>) -> Result<Message, Refusal> {
        self.permit.add_bytes(PREFIX)?;
        let prefix = mem::take(&mut self.prefix);
        let length = prefix[1..].iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
        if prefix[0] != 1 {
            unpacked.extend_from_slice(&prefix);
            return Ok(Message::Plain(length));
        }
        if length > MAX_INTERNAL_MESSAGE {
            return Err(too_large(&format!("it has {length} bytes packed")));
        }
        Ok(Message::Packed(length, Box::new(Decoder::of(self.encoding, Sink::of(&self.permit)))))
    }
}

/// The first `most` of `data`, which has the rest then.
fn take<'a>(data: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = data.split_at(most.min(data.len()));
    *data = rest;
    taken
}

fn too_large(why: &str) -> Refusal {
    Refusal::too_large(format!(
        "the request is too large: {why}, and at most {MAX_INTERNAL_MESSAGE} are taken"
    ))
}

/// What is unpacked: bounded, and counted as it comes.
struct Sink {
    /// After room for its prefix.
    unpacked: Vec<u8>,
    permit: Permit,
    /// Why no more is taken.
    refused: Option<Refusal>,
}

impl Sink {
    fn of(permit: &Permit) -> Self {
        Self { unpacked: vec![0; PREFIX], permit: permit.clone(), refused: None }
    }

    fn add(&mut self, part: &[u8]) -> Result<(), Refusal> {
        if self.unpacked.len() + part.len() > PREFIX + MAX_INTERNAL_MESSAGE {
            return Err(too_large("it is larger unpacked"));
        }
        self.permit.add_bytes(part.len())?;
        self.unpacked.extend_from_slice(part);
        Ok(())
    }
}

impl Sink {
    /// The message, as it would have come if it were not packed.
    fn message(&mut self) -> Vec<u8> {
        let mut message = mem::take(&mut self.unpacked);
        let length = ((message.len() - PREFIX) as u32).to_be_bytes();
        message[1..PREFIX].copy_from_slice(&length);
        message
    }
}

impl Write for Sink {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.add(part).map_err(|refusal| {
            self.refused = Some(refusal);
            io::Error::from(io::ErrorKind::QuotaExceeded)
        })?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message that is being unpacked.
enum Decoder {
    /// RFC 1952.
    Gzip(GzDecoder<Sink>),
    /// RFC 8878.
    Zstd(Zstd),
}

impl Decoder {
    fn of(encoding: Encoding, sink: Sink) -> Self {
        match encoding {
            Encoding::Gzip => Self::Gzip(GzDecoder::new(sink)),
            Encoding::Zstd => Self::Zstd(Zstd { context: None, held: None, is_complete: false, sink }),
        }
    }

    fn feed(&mut self, part: &[u8]) -> Result<(), Refusal> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(part).map_err(|error| {
                decoder.get_mut().refused.take().unwrap_or_else(|| undecodable("gzip", &error.to_string()))
            }),
            Self::Zstd(decoder) => decoder.feed(part),
        }
    }

    fn end(self) -> Result<Vec<u8>, Refusal> {
        match self {
            Self::Gzip(mut decoder) => match decoder.try_finish() {
                Ok(()) => Ok(decoder.get_mut().message()),
                Err(error) => Err(decoder
                    .get_mut()
                    .refused
                    .take()
                    .unwrap_or_else(|| undecodable("gzip", &error.to_string()))),
            },
            Self::Zstd(mut decoder) if decoder.is_complete => Ok(decoder.sink.message()),
            Self::Zstd(_) => Err(undecodable("zstd", "it is cut off")),
        }
    }
}

fn undecodable(encoding: &str, why: &str) -> Refusal {
    Refusal::undecodable(format!("the request cannot be decoded: its message is no {encoding}: {why}"))
}

/// A frame of Zstandard.
struct Zstd {
    context: Option<DCtx<'static>>,
    /// The memory of the context, while there is one.
    held: Option<OwnedSemaphorePermit>,
    is_complete: bool,
    sink: Sink,
}

impl Zstd {
    fn feed(&mut self, part: &[u8]) -> Result<(), Refusal> {
        let wrong = |code| undecodable("zstd", zstd_safe::get_error_name(code));
        let Self { context, held, is_complete, sink } = self;
        let context = if let Some(context) = context {
            context
        } else {
            let made = context.insert(DCtx::create());
            made.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(wrong)?;
            made
        };
        let (mut input, mut chunk) = (InBuffer::around(part), vec![0; CHUNK]);
        loop {
            let mut output = OutBuffer::around(&mut chunk[..]);
            let hint = context.decompress_stream(&mut output, &mut input).map_err(wrong)?;
            // With what it keeps of what came before.
            let counted = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            if let Some(more) = sink.permit.take_bytes(context.sizeof().saturating_sub(counted))? {
                match held {
                    Some(held) => held.merge(more),
                    None => *held = Some(more),
                }
            }
            *is_complete = hint == 0;
            let may_have_more = output.pos() == CHUNK && !*is_complete;
            sink.add(output.as_slice())?;
            if input.pos() == part.len() && !may_have_more {
                return Ok(());
            }
        }
    }
}
