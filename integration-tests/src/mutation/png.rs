//! PNG files, chunk by chunk, with checksums that are right: a decoder refuses others before it looks inside.

use rand::RngExt as _;

use super::Random;

/// Bytes before the first chunk.
const SIGNATURE: usize = 8;

/// Changes one to three chunks of a PNG file: their content, their order, how often they occur.
pub fn png(random: &mut Random, file: &mut Vec<u8>) {
    let mut chunks = Vec::new();
    let mut rest = &file[SIGNATURE..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((chunk, after)) = after.split_at_checked(4 + length) else { break };
        chunks.push(chunk.to_vec());
        rest = after.get(4..).unwrap_or_default();
    }
    for _ in 0..random.random_range(1..=3) {
        if chunks.is_empty() {
            break;
        }
        let (at, to) = (random.random_range(0..chunks.len()), random.random_range(0..chunks.len()));
        match random.random_range(0..6) {
            0 => drop(chunks.remove(at)),
            1 => chunks.insert(to, chunks[at].clone()),
            2 => chunks.swap(at, to),
            _ => {
                let mut content = chunks[at].split_off(4);
                super::bytes(random, &mut content);
                chunks[at].extend(content);
            }
        }
    }
    file.truncate(SIGNATURE);
    for chunk in chunks {
        file.extend(((chunk.len() - 4) as u32).to_be_bytes());
        file.extend_from_slice(&chunk);
        file.extend(checksum(&chunk).to_be_bytes());
    }
}

/// The checksum of a chunk's type and content (ISO/IEC 15948, annex D).
pub fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (!(crc & 1)).wrapping_add(1)))
    })
}
