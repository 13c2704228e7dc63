//! What can go wrong between us and storage. Every message names the file, and how to mend it where we know.

use std::error::Error as StdError;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The location is of a kind that is not supported.
    #[error("{location}: {scheme}:// is not supported; give a local path or a file:// URL")]
    Scheme {
        /// The location.
        location: String,
        /// Its scheme.
        scheme: String,
    },
    /// The location cannot be read as one.
    #[error("{location:?} is not a location: {why}")]
    Location {
        /// The location.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// The path is not one that stays within its folder.
    #[error("{path:?} is not a path within a folder: {why}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The path leads through a symbolic link, which could point anywhere.
    #[error("{file} is a symbolic link, or in one; put the file itself there")]
    SymbolicLink {
        /// The file or folder that is a link.
        file: String,
    },
    /// There is no such file.
    #[error("{file} does not exist")]
    NotFound {
        /// The file.
        file: String,
    },
    /// The file exists and must not be overwritten.
    #[error("{file} exists already and is never overwritten; choose another folder")]
    AlreadyExists {
        /// The file.
        file: String,
    },
    /// The file is larger than is reasonable for what it should be.
    #[error("{file} has {size_bytes} bytes, at most {max_bytes} are read")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        size_bytes: u64,
        /// The most that is read.
        max_bytes: u64,
    },
    /// The file has another size than was recorded.
    #[error("{file} is damaged: it should have {expected} bytes, it has {found}; fetch the package again")]
    Size {
        /// The file.
        file: String,
        /// The recorded size, bytes.
        expected: u64,
        /// The actual size, bytes.
        found: u64,
    },
    /// The file's bytes are not those that were recorded.
    #[error("{file} is damaged: its SHA-256 should be {expected}, it is {found}; fetch the package again")]
    Digest {
        /// The file.
        file: String,
        /// The recorded digest.
        expected: String,
        /// The actual digest.
        found: String,
    },
    /// The file was read, but what it says makes no sense.
    #[error("{file}: {why}")]
    Content {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Storage failed.
    #[error("{file} cannot be accessed: {source}")]
    Access {
        /// The file.
        file: String,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl StorageError {
    pub(crate) fn content(file: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Content { file: file.into(), why: why.into() }
    }

    pub(crate) fn access(file: String, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Access { file, source: source.into() }
    }
}
