//! SHA-256 of files, and the record kept beside a file (in the format of `sha256sum`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// The SHA-256 of a file's bytes, in lower-case hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// One line as `sha256sum` writes it, so that `sha256sum -c` can check it too.
pub(crate) fn record(sha256: &str, file_name: &str) -> String {
    format!("{sha256}  {file_name}\n")
}

/// Whether a record says that `file_name` has this checksum.
pub(crate) fn record_agrees(record_text: &str, sha256: &str, file_name: &str) -> bool {
    record_text == record(sha256, file_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_specification_s_example() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_of(&path).unwrap(), SHA256_OF_ABC);
    }

    #[test]
    fn a_record_agrees_with_its_own_file_only() {
        let text = record(SHA256_OF_ABC, "abc");
        assert!(record_agrees(&text, SHA256_OF_ABC, "abc"));
        assert!(!record_agrees(&text, SHA256_OF_ABC, "other"));
        assert!(!record_agrees(&text, &SHA256_OF_ABC.replace('b', "c"), "abc"));
        assert!(!record_agrees("", SHA256_OF_ABC, "abc"));
    }
}
