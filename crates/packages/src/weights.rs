//! Weights that are no numbers, found without ONNX Runtime and without holding a model: a graph and its files of weights are read
//! through once, part by part.
//!
//! Fields and numbers are those of onnx.proto (ONNX 1.17, IR version 10), on the wire format of protocol buffers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

/// Bytes that are looked at together; a multiple of the size of every number.
const CHUNK: usize = 1 << 18;
/// The longest name that is kept.
const MAX_NAME: u64 = 4096;
/// Messages within messages; graphs can hold graphs.
const MAX_DEPTH: u32 = 64;

/// A tensor of weights that cannot be what was trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Its name in the graph.
    pub tensor: String,
    /// How many of its numbers are NaN.
    pub not_numbers: u64,
    /// How many are infinite, where the others are not only 0 and 1, as in a mask.
    pub infinite: u64,
}

/// What a graph holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    /// Tensors that hold what is no number.
    pub flaws: Vec<Flaw>,
    /// Files of weights beside the graph, as it names them.
    pub files: BTreeSet<String>,
    /// Tensors of floating point in them.
    outside: BTreeMap<String, Vec<Outside>>,
}

/// A tensor in a file beside the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outside {
    tensor: String,
    offset: u64,
    /// None for all that follows.
    length: Option<u64>,
    kind: Kind,
}

/// Types of floating point, as ONNX numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    F64,
    Bf16,
}

impl Kind {
    fn of(data_type: u64) -> Option<Self> {
        match data_type {
            1 => Some(Self::F32),
            10 => Some(Self::F16),
            11 => Some(Self::F64),
            16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

/// How many numbers there are of each sort.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    not_numbers: u64,
    infinite: u64,
    /// Neither 0 nor 1 nor any of the above.
    others: u64,
}

impl Tally {
    fn add(&mut self, kind: Kind, bytes: &[u8]) {
        match kind {
            Kind::F32 => {
                for of in bytes.as_chunks().0 {
                    self.number(f32::from_le_bytes(*of).into());
                }
            }
            Kind::F64 => bytes.as_chunks().0.iter().for_each(|of| self.number(f64::from_le_bytes(*of))),
            Kind::F16 | Kind::Bf16 => {
                bytes.as_chunks().0.iter().for_each(|of| self.half(kind, u16::from_le_bytes(*of)));
            }
        }
    }

    fn half(&mut self, kind: Kind, bits: u16) {
        self.number(match kind {
            Kind::Bf16 => half::bf16::from_bits(bits).into(),
            _ => half::f16::from_bits(bits).into(),
        });
    }

    fn number(&mut self, number: f64) {
        if number.is_nan() {
            self.not_numbers += 1;
        } else if number.is_infinite() {
            self.infinite += 1;
        } else if number.abs() > 0.0 && number.to_bits() != 1.0_f64.to_bits() {
            self.others += 1;
        }
    }

    fn flaw(self, tensor: &str) -> Option<Flaw> {
        let infinite = if self.others > 0 { self.infinite } else { 0 };
        let is_sound = self.not_numbers == 0 && infinite == 0;
        let flaw = Flaw { tensor: tensor.to_owned(), not_numbers: self.not_numbers, infinite };
        (!is_sound).then_some(flaw)
    }
}

impl Weights {
    /// Reads a graph through, to its end.
    pub fn of_graph(reader: impl Read) -> io::Result<Self> {
        let mut walk = Walk { reader, left: u64::MAX, found: Self::default() };
        walk.message(Message::Model, None, MAX_DEPTH)?;
        Ok(walk.found)
    }

    /// Reads the file through that the graph calls `name`, to its end.
    pub fn look_at_file(&mut self, name: &str, mut reader: impl Read) -> io::Result<()> {
        let mut tensors = self.outside.get(name).cloned().unwrap_or_default();
        tensors.sort_by_key(|tensor| tensor.offset);
        let mut at = 0;
        for (number, tensor) in tensors.iter().enumerate() {
            // Tensors may share their bytes: each is looked at once.
            let shares = tensors[..number].last().is_some_and(|before| before.offset == tensor.offset);
            if shares || tensor.offset < at {
                continue;
            }
            at += skip(&mut reader, tensor.offset - at)?;
            let mut tally = Tally::default();
            at += read_through(&mut reader, tensor.length.unwrap_or(u64::MAX), |part| {
                tally.add(tensor.kind, part);
            })?;
            self.flaws.extend(tally.flaw(&tensor.tensor));
        }
        skip(&mut reader, u64::MAX).map(|_| ())
    }
}

/// Messages that lead to tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

impl Message {
    /// What a field of it is, if that leads to tensors.
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Function, 11) | (Self::Node, 5) => Self::Attribute,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1) => Self::Tensor,
            _ => return None,
        })
    }
}

/// What is known of a tensor so far.
#[derive(Default)]
struct Tensor {
    name: String,
    data_type: u64,
    tally: Tally,
    entries: Vec<(String, String)>,
}

/// A graph that is being read.
struct Walk<R> {
    reader: R,
    /// Bytes of the message that is being read.
    left: u64,
    found: Weights,
}

impl<R: Read> Walk<R> {
    /// Reads a message of `length` bytes; all that follows without one.
    fn message(&mut self, message: Message, length: Option<u64>, depth: u32) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| broken("its messages are nested too deeply"))?;
        let outer = match length {
            Some(length) => {
                let outer = self
                    .left
                    .checked_sub(length)
                    .ok_or_else(|| broken("a part of it is longer than the whole"))?;
                self.left = length;
                outer
            }
            None => 0,
        };
        let mut tensor = Tensor::default();
        while self.left > 0 {
            let Some(tag) = self.varint_or_end(length.is_none())? else { break };
            let (field, wire) = (tag >> 3, tag & 7);
            match (wire, message) {
                (0, Message::Tensor) if field == 2 => tensor.data_type = self.varint()?,
                (0, Message::Tensor) if field == 5 => {
                    let bits = self.varint()?;
                    tensor.int32(bits);
                }
                (0, _) => {
                    self.varint()?;
                }
                (1 | 5, _) => self.fixed(message, field, wire, &mut tensor)?,
                (2, _) => {
                    let length = self.varint()?;
                    match message.field(field) {
                        Some(inner) => self.message(inner, Some(length), depth)?,
                        None if message == Message::Tensor => self.of_tensor(field, length, &mut tensor)?,
                        None => self.pass(length)?,
                    }
                }
                _ => return Err(broken("it has a field of an unknown type")),
            }
        }
        if message == Message::Tensor {
            self.found.add(&tensor);
        }
        self.left = outer;
        Ok(())
    }

    /// A number of fixed size: one of a tensor's that are not packed, or something else.
    fn fixed(&mut self, message: Message, field: u64, wire: u64, tensor: &mut Tensor) -> io::Result<()> {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..if wire == 1 { 8 } else { 4 }];
        self.take(bytes.len() as u64)?;
        self.reader.read_exact(bytes)?;
        match (message, field, wire) {
            (Message::Tensor, 4, 5) => tensor.tally.add(Kind::F32, bytes),
            (Message::Tensor, 10, 1) => tensor.tally.add(Kind::F64, bytes),
            _ => {}
        }
        Ok(())
    }

    /// A field of a tensor that has a length.
    fn of_tensor(&mut self, field: u64, length: u64, tensor: &mut Tensor) -> io::Result<()> {
        let kind = match field {
            4 => Some(Kind::F32),
            9 => Kind::of(tensor.data_type),
            10 => Some(Kind::F64),
            _ => None,
        };
        match field {
            5 => {
                let end = self
                    .left
                    .checked_sub(length)
                    .ok_or_else(|| broken("its numbers are longer than the whole"))?;
                while self.left > end {
                    let bits = self.varint()?;
                    tensor.int32(bits);
                }
            }
            8 => tensor.name = self.text(length)?,
            13 => {
                let entry = self.entry(length)?;
                tensor.entries.push(entry);
            }
            _ => match kind {
                Some(kind) => {
                    self.take(length)?;
                    let read = read_through(&mut self.reader, length, |part| tensor.tally.add(kind, part))?;
                    if read < length {
                        return Err(broken("it ends within its weights"));
                    }
                }
                None => self.pass(length)?,
            },
        }
        Ok(())
    }

    /// A key and its value.
    fn entry(&mut self, length: u64) -> io::Result<(String, String)> {
        let end =
            self.left.checked_sub(length).ok_or_else(|| broken("an entry of it is longer than the whole"))?;
        let mut entry = (String::new(), String::new());
        while self.left > end {
            let tag = self.varint()?;
            let length = self.varint()?;
            match tag {
                0x0a => entry.0 = self.text(length)?,
                0x12 => entry.1 = self.text(length)?,
                _ => return Err(broken("it has an entry without key and value")),
            }
        }
        Ok(entry)
    }

    fn text(&mut self, length: u64) -> io::Result<String> {
        self.take(length)?;
        let mut bytes = vec![0; length.min(MAX_NAME) as usize];
        self.reader.read_exact(&mut bytes)?;
        skip(&mut self.reader, length - bytes.len() as u64)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn pass(&mut self, length: u64) -> io::Result<()> {
        self.take(length)?;
        if skip(&mut self.reader, length)? < length { Err(broken("it ends too early")) } else { Ok(()) }
    }

    fn take(&mut self, bytes: u64) -> io::Result<()> {
        self.left =
            self.left.checked_sub(bytes).ok_or_else(|| broken("a part of it is longer than the whole"))?;
        Ok(())
    }

    fn varint(&mut self) -> io::Result<u64> {
        self.varint_or_end(false)?.ok_or_else(|| broken("it ends too early"))
    }

    /// None at the end of the file, where it `may_end`.
    fn varint_or_end(&mut self, may_end: bool) -> io::Result<Option<u64>> {
        let (mut value, mut byte) = (0, [0]);
        for shift in (0..64).step_by(7) {
            if self.reader.read(&mut byte)? == 0 {
                return if may_end && shift == 0 { Ok(None) } else { Err(broken("it ends too early")) };
            }
            self.take(1)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(Some(value));
            }
        }
        Err(broken("it has a number of more than 64 bits"))
    }
}

impl Tensor {
    /// Numbers of 16 bits stand there one by one.
    fn int32(&mut self, bits: u64) {
        if let Some(kind @ (Kind::F16 | Kind::Bf16)) = Kind::of(self.data_type) {
            self.tally.half(kind, bits as u16);
        }
    }
}

impl Weights {
    fn add(&mut self, tensor: &Tensor) {
        self.flaws.extend(tensor.tally.flaw(&tensor.name));
        let entry =
            |key: &str| tensor.entries.iter().find(|(of, _)| of == key).map(|(_, value)| value.as_str());
        self.files.extend(entry("location").map(ToOwned::to_owned));
        if let (Some(location), Some(kind)) = (entry("location"), Kind::of(tensor.data_type)) {
            let number = |key: &str| entry(key).and_then(|value| value.parse().ok());
            let outside = Outside {
                offset: number("offset").unwrap_or_default(),
                length: number("length"),
                kind,
                tensor: tensor.name.clone(),
            };
            self.outside.entry(location.to_owned()).or_default().push(outside);
        }
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is no ONNX file: {why}"))
}

fn skip(reader: &mut impl Read, bytes: u64) -> io::Result<u64> {
    io::copy(&mut reader.take(bytes), &mut io::sink())
}

/// Hands over up to `length` bytes, in parts of whole numbers. Gives how many there were.
fn read_through(reader: &mut impl Read, length: u64, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(length).unwrap_or(CHUNK))];
    let mut done = 0;
    while done < length {
        let wanted = buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
        let mut filled = 0;
        while filled < wanted {
            match reader.read(&mut buffer[filled..wanted])? {
                0 => break,
                read => filled += read,
            }
        }
        take(&buffer[..filled]);
        done += filled as u64;
        if filled < wanted {
            break;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;

    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        varint(number << 3 | 2, &mut out);
        varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    }

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    /// A tensor whose numbers are in the field `number`.
    fn tensor(name: &str, data_type: u8, number: u64, data: &[u8]) -> Vec<u8> {
        [vec![0x10, data_type], field(8, name.as_bytes()), field(number, data)].concat()
    }

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn flaws(model: &[u8]) -> Vec<(String, u64, u64)> {
        let weights = Weights::of_graph(model).unwrap();
        weights.flaws.into_iter().map(|flaw| (flaw.tensor, flaw.not_numbers, flaw.infinite)).collect()
    }

    /// A model with one initializer.
    fn model(tensor: &[u8]) -> Vec<u8> {
        field(7, &field(5, tensor))
    }

    #[test]
    fn what_is_no_number_is_found_in_every_type() {
        let nan = [1.5, f32::NAN, 2.0, f32::INFINITY];
        let f16s: Vec<u8> = nan.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect();
        let bf16s: Vec<u8> = nan.iter().flat_map(|number| bf16::from_f32(*number).to_le_bytes()).collect();
        let f64s: Vec<u8> = nan.iter().flat_map(|number| f64::from(*number).to_le_bytes()).collect();
        let mut one_by_one = Vec::new();
        for number in nan {
            varint(f16::from_f32(number).to_bits().into(), &mut one_by_one);
        }
        for (data_type, number, data) in [
            (1, 9, bytes(&nan)),
            (1, 4, bytes(&nan)),
            (10, 9, f16s),
            (10, 5, one_by_one),
            (16, 9, bf16s),
            (11, 9, f64s.clone()),
            (11, 10, f64s),
        ] {
            let found = flaws(&model(&tensor("w", data_type, number, &data)));
            assert_eq!(found, [("w".to_owned(), 1, 1)], "type {data_type}, field {number}");
        }
        // Whole numbers are never NaN.
        assert_eq!(flaws(&model(&tensor("w", 7, 9, &bytes(&nan)))), []);
    }

    #[test]
    fn a_mask_may_be_infinite() {
        let mask = [0.0, f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY];
        assert_eq!(flaws(&model(&tensor("mask", 1, 9, &bytes(&mask)))), []);
        assert_eq!(flaws(&model(&tensor("w", 1, 9, &bytes(&[0.5, f32::NEG_INFINITY])))).len(), 1);
    }

    #[test]
    fn every_place_of_a_tensor_is_looked_at() {
        let bad = tensor("w", 1, 9, &bytes(&[f32::NAN]));
        let attribute = field(5, &bad);
        let graph = field(5, &bad);
        for model in [
            field(7, &field(1, &field(5, &attribute))),
            field(7, &field(1, &field(5, &field(6, &graph)))),
            field(7, &field(1, &field(5, &field(10, &bad)))),
            field(7, &field(15, &field(1, &bad))),
            field(25, &field(7, &field(5, &attribute))),
            field(20, &field(1, &graph)),
        ] {
            assert_eq!(flaws(&model), [("w".to_owned(), 1, 0)]);
        }
    }

    #[test]
    fn weights_outside_are_looked_at_where_they_are() {
        let entry = |key: &str, value: &str| {
            field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let outside = |name: &str, offset: &str| {
            let place =
                [entry("location", "./w.data"), entry("offset", offset), entry("length", "8")].concat();
            field(5, &[tensor(name, 1, 8, name.as_bytes()), place].concat())
        };
        let graph = [outside("second", "12"), outside("first", "0")].concat();
        let mut weights = Weights::of_graph(&field(7, &graph)[..]).unwrap();
        assert_eq!((weights.flaws.len(), weights.outside["./w.data"].len()), (0, 2));
        let file = bytes(&[1.0, 2.0, f32::NAN, 3.0, f32::NAN, 4.0]);
        weights.look_at_file("./w.data", &file[..]).unwrap();
        assert_eq!(weights.flaws, [Flaw { tensor: "second".to_owned(), not_numbers: 1, infinite: 0 }]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Weights::of_graph(&bytes[..]);
        }

        #[test]
        fn a_number_is_found_wherever_it_is(length in 1_usize..200_000, at in any::<prop::sample::Index>()) {
            let mut numbers = vec![0.25_f32; length];
            numbers[at.index(length)] = f32::NAN;
            prop_assert_eq!(flaws(&model(&tensor("w", 1, 9, &bytes(&numbers)))), [("w".to_owned(), 1, 0)]);
        }
    }
}
