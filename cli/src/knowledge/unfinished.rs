//! What a build has embedded so far: a file that grows by batches, so that an interrupted build resumes.
//!
//! ```text
//! reverie vectors 1 SPACE DIMENSION \n      SPACE is the digest of the encoder
//! DIGEST VECTOR CHECK                       SHA-256 of a picture in hex, f32 values in little-endian, 16 digits of the SHA-256
//! ...                                       of both; without separators
//! ```
//!
//! Vectors are found by their picture's bytes, so pictures may come, go, change or be renamed between two attempts. A record that
//! was torn ends the file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};

use reverie_storage::sha256_hex;

/// Bytes of a digest in hex.
const DIGEST: usize = 64;
const CHECK: usize = 16;

/// The vectors by the digest of their picture.
#[derive(Debug)]
pub(super) struct Unfinished<'a> {
    file: &'a mut File,
    vectors: HashMap<String, Vec<f32>>,
}

impl<'a> Unfinished<'a> {
    /// Reads what is there, if it was made by this encoder; begins anew otherwise. `file` must be opened for appending.
    pub(super) fn resume(file: &'a mut File, space_digest: &str, dimension: usize) -> io::Result<Self> {
        let header = format!("reverie vectors 1 {space_digest} {dimension}\n");
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        let mut vectors = HashMap::new();
        if let Some(records) = bytes.strip_prefix(header.as_bytes()) {
            let length = DIGEST + 4 * dimension + CHECK;
            vectors.extend(records.chunks(length).map_while(|record| parse(record, length)));
            file.set_len((header.len() + vectors.len() * length) as u64)?;
        } else {
            file.set_len(0)?;
            file.write_all(header.as_bytes())?;
        }
        Ok(Self { file, vectors })
    }

    pub(super) fn vectors(&self) -> &HashMap<String, Vec<f32>> {
        &self.vectors
    }

    /// Adds the vectors of a batch of different pictures that are not there yet.
    pub(super) fn add(&mut self, batch: Vec<(String, Vec<f32>)>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (digest, vector) in &batch {
            let start = bytes.len();
            bytes.extend_from_slice(digest.as_bytes());
            bytes.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
            let check = sha256_hex(&bytes[start..]);
            bytes.extend_from_slice(&check.as_bytes()[..CHECK]);
        }
        self.file.write_all(&bytes)?;
        self.vectors.extend(batch);
        Ok(())
    }
}

fn parse(record: &[u8], length: usize) -> Option<(String, Vec<f32>)> {
    let (content, check) = record.split_at_checked(length - CHECK)?;
    if sha256_hex(content).as_bytes()[..CHECK] != *check {
        return None;
    }
    let (digest, values) = content.split_at(DIGEST);
    let (values, _) = values.as_chunks::<4>();
    let vector = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    Some((String::from_utf8(digest.to_vec()).ok()?, vector))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::OpenOptions::new().read(true).append(true).open(file.path()).unwrap()
    }

    fn batch(numbers: std::ops::Range<usize>) -> Vec<(String, Vec<f32>)> {
        numbers.map(|n| (sha256_hex(&n.to_le_bytes()), vec![n as f32, -0.5])).collect()
    }

    fn length(file: &File) -> u64 {
        file.metadata().unwrap().len()
    }

    #[test]
    fn what_was_embedded_is_found_again() {
        let mut file = file();
        let mut first = Unfinished::resume(&mut file, "space", 2).unwrap();
        assert!(first.vectors().is_empty());
        first.add(batch(0..3)).unwrap();
        first.add(batch(3..5)).unwrap();
        let again = Unfinished::resume(&mut file, "space", 2).unwrap();
        assert_eq!(again.vectors(), &batch(0..5).into_iter().collect());
    }

    #[test]
    fn a_torn_record_ends_the_file_and_the_next_one_takes_its_place() {
        let mut file = file();
        Unfinished::resume(&mut file, "space", 2).unwrap().add(batch(0..3)).unwrap();
        let whole = length(&file);
        for lost in [1, 20, 87] {
            file.set_len(whole - lost).unwrap();
            let mut torn = Unfinished::resume(&mut file, "space", 2).unwrap();
            assert_eq!(torn.vectors().len(), 2, "{lost} bytes lost");
            torn.add(batch(2..3)).unwrap();
            assert_eq!(length(&file), whole);
        }
        // Zeros instead of a record, as after a power cut.
        file.set_len(whole - 88).unwrap();
        file.set_len(whole).unwrap();
        assert_eq!(Unfinished::resume(&mut file, "space", 2).unwrap().vectors().len(), 2);
    }

    #[test]
    fn vectors_of_another_encoder_are_thrown_away() {
        for (space, dimension) in [("other", 2), ("space", 3)] {
            let mut file = file();
            Unfinished::resume(&mut file, "space", 2).unwrap().add(batch(0..3)).unwrap();
            assert!(Unfinished::resume(&mut file, space, dimension).unwrap().vectors().is_empty());
            assert!(Unfinished::resume(&mut file, "space", 2).unwrap().vectors().is_empty());
        }
    }
}
