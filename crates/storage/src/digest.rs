//! What a file must be: its size and its SHA-256.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::StorageError;

/// A file of a package or an epoch, as its manifest records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Path relative to the manifest's folder, with forward slashes.
    pub path: String,
    /// Lower-case hex SHA-256 of its bytes.
    pub sha256: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl FileDigest {
    /// Describes `bytes` under `path`.
    pub fn of(path: impl Into<String>, bytes: &[u8]) -> Self {
        Self { path: path.into(), sha256: sha256_hex(bytes), size_bytes: bytes.len() as u64 }
    }
}

/// What is read through it, measured against what a file must be.
#[derive(Debug)]
pub struct Verifying<R> {
    reader: R,
    hash: Sha256,
    size_bytes: u64,
}

impl<R: Read> Verifying<R> {
    /// Reads `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, hash: Sha256::new(), size_bytes: 0 }
    }

    /// Says whether all that was read is `file`, whose name for people is `name`.
    pub fn check(self, file: &FileDigest, name: &str) -> Result<(), StorageError> {
        let name = name.to_owned();
        if self.size_bytes != file.size_bytes {
            return Err(StorageError::Size { file: name, expected: file.size_bytes, found: self.size_bytes });
        }
        let found = hex::encode(self.hash.finalize());
        if found != file.sha256 {
            return Err(StorageError::Digest { file: name, expected: file.sha256.clone(), found });
        }
        Ok(())
    }
}

impl<R: Read> Read for Verifying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.size_bytes += read as u64;
        Ok(read)
    }
}

/// Lower-case hex SHA-256 of `bytes`.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_measured() {
        let file = FileDigest::of("abc.txt", b"abc");
        let read = |bytes: &[u8]| {
            let mut reader = Verifying::new(bytes);
            io::copy(&mut reader, &mut io::sink()).unwrap();
            reader.check(&file, "abc.txt")
        };
        assert!(read(b"abc").is_ok());
        assert!(matches!(read(b"abd"), Err(StorageError::Digest { .. })));
        assert!(matches!(read(b"ab"), Err(StorageError::Size { expected: 3, found: 2, .. })));
    }

    #[test]
    fn digests_are_those_of_fips_180() {
        let file = FileDigest::of("abc.txt", b"abc");
        assert_eq!(file.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(file.size_bytes, 3);
    }
}
