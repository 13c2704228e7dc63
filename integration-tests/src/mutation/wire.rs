//! Messages of Protocol Buffers, without their contract: the fields of a message, and of the messages in it.

use rand::RngExt as _;

use super::{Random, choose};

const VARINT: u64 = 0;
const LONG: u64 = 1;
const BYTES: u64 = 2;
const SHORT: u64 = 5;

/// A field: its number and type as they are written, and what it holds.
type Field = (u64, Held);

#[derive(Clone)]
enum Held {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Changes one to three fields of an encoded message, and the lengths around them accordingly. What is no message is left as it is.
pub fn message(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.random_range(1..=3) {
        change(random, bytes);
    }
}

fn change(random: &mut Random, bytes: &mut Vec<u8>) -> bool {
    let Some(mut fields) = read(bytes).filter(|fields| !fields.is_empty()) else { return false };
    let at = random.random_range(0..fields.len());
    let is_inside = match &mut fields[at].1 {
        Held::Bytes(inner) => random.random_bool(0.85) && change(random, inner),
        Held::Number(_) => false,
    };
    if !is_inside {
        let to = random.random_range(0..fields.len());
        match random.random_range(0..6) {
            0 => drop(fields.remove(at)),
            1 => fields.insert(to, fields[at].clone()),
            2 => fields.swap(at, to),
            // Another field of the same type.
            3 => fields[at].0 ^= 1 << random.random_range(3..6),
            _ => match &mut fields[at].1 {
                Held::Number(number) => {
                    let numbers =
                        [0, 1, number.wrapping_add(1), number.wrapping_mul(2), 1 << 31, 1 << 62, u64::MAX];
                    *number = *choose(random, &numbers);
                }
                Held::Bytes(bytes) => super::bytes(random, bytes),
            },
        }
    }
    *bytes = write(&fields);
    true
}

fn read(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let held = match key & 7 {
            VARINT => Held::Number(take_varint(&mut bytes)?),
            LONG => Held::Bytes(take(&mut bytes, 8)?),
            SHORT => Held::Bytes(take(&mut bytes, 4)?),
            BYTES => {
                let length = take_varint(&mut bytes)?;
                Held::Bytes(take(&mut bytes, usize::try_from(length).ok()?)?)
            }
            _ => return None,
        };
        // There is no field 0.
        if key >> 3 == 0 {
            return None;
        }
        fields.push((key, held));
    }
    Some(fields)
}

fn take(bytes: &mut &[u8], length: usize) -> Option<Vec<u8>> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken.to_vec())
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, held) in fields {
        write_varint(&mut bytes, *key);
        match held {
            Held::Number(number) => write_varint(&mut bytes, *number),
            Held::Bytes(held) if key & 7 == BYTES => {
                write_varint(&mut bytes, held.len() as u64);
                bytes.extend_from_slice(held);
            }
            // Of a fixed length, whatever became of it.
            Held::Bytes(held) => {
                let length = if key & 7 == LONG { 8 } else { 4 };
                bytes.extend(held.iter().copied().chain(std::iter::repeat(0)).take(length));
            }
        }
    }
    bytes
}

fn write_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
