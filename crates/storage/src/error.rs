//! What can go wrong between us and storage. Every message names the file, and how to mend it where we know.

use std::error::Error as StdError;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The location is of a kind that is not supported.
    #[error(
        "{location}: {scheme}:// is not supported; give a local path, or a URL of file://, s3://, gs://, az://, abfss://, https:// \
         or http://"
    )]
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
    /// Object storage cannot be set up for the location.
    #[error("{location} cannot be opened: {why}. Credentials and options are read from: {credentials}")]
    Setup {
        /// The location.
        location: String,
        /// What is wrong or missing.
        why: String,
        /// Where credentials are looked for.
        credentials: &'static str,
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
    #[error("{file} is damaged: it should have {expected} bytes, it has {found}; fetch or publish it again")]
    Size {
        /// The file.
        file: String,
        /// The recorded size, bytes.
        expected: u64,
        /// The actual size, bytes.
        found: u64,
    },
    /// The file's bytes are not those that were recorded.
    #[error("{file} is damaged: its SHA-256 should be {expected}, it is {found}; fetch or publish it again")]
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
    /// There is no such bucket.
    #[error(
        "{file}: there is no such {bucket}; check its name in the location, and the endpoint and account that are configured"
    )]
    NoBucket {
        /// The file that was asked for.
        file: String,
        /// What this kind of storage calls a bucket.
        bucket: &'static str,
    },
    /// The credentials are not valid, or there are none.
    #[error("{file}: the credentials were not accepted ({why}). They are looked for in {credentials}")]
    Credentials {
        /// The file that was asked for.
        file: String,
        /// What the server says of them.
        why: String,
        /// Where credentials are looked for.
        credentials: &'static str,
    },
    /// The credentials are valid, and may not do this.
    #[error(
        "{file}: no permission ({why}). Give the credentials in use the right to read objects, to list the {bucket} so that what is \
         missing is told, and to write objects if something is published; they come from {credentials}"
    )]
    Denied {
        /// The file that was asked for.
        file: String,
        /// What the server says.
        why: String,
        /// What this kind of storage calls a bucket.
        bucket: &'static str,
        /// Where credentials are looked for.
        credentials: &'static str,
    },
    /// The bucket is in another region than requests were signed for.
    #[error(
        "{file}: the bucket is in another region{}; set AWS_REGION to the region of the bucket",
        region.as_ref().map(|region| format!(", {region}")).unwrap_or_default()
    )]
    Region {
        /// The file that was asked for.
        file: String,
        /// The bucket's region, if the server says it.
        region: Option<String>,
    },
    /// The clock of this machine and that of the server differ.
    #[error(
        "{file}: the clock of this machine differs from that of the server by more than it accepts; set the clock (NTP) and try again"
    )]
    Clock {
        /// The file that was asked for.
        file: String,
    },
    /// The server ended a file before its end, again and again.
    #[error(
        "{file} is truncated: the server stopped sending it before its end ({why}); try again, and if that does not help, publish it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// How it stopped.
        why: String,
    },
    /// No server answers, or none that can be talked to.
    #[error(
        "{file}: the server cannot be reached ({why}); check the endpoint, DNS, the network and a proxy (HTTPS_PROXY)"
    )]
    Unreachable {
        /// The file that was asked for.
        file: String,
        /// What failed.
        why: String,
    },
    /// The endpoint has no TLS, and nothing allows that.
    #[error("{file}: the endpoint is http://, which has no TLS; set {allow} if that is meant")]
    NoTls {
        /// The file that was asked for.
        file: String,
        /// What allows it.
        allow: &'static str,
    },
    /// This kind of storage cannot be written to.
    #[error("{file}: {location_kind} is only read; publish to a folder, s3://, gs:// or az://")]
    ReadOnly {
        /// The file that was to be written.
        file: String,
        /// The kind of location.
        location_kind: &'static str,
    },
    /// Something is there that is not what is to be published.
    #[error(
        "{file} is there already with another content, and is never overwritten; publish to another location"
    )]
    Differs {
        /// The file.
        file: String,
    },
    /// A file is needed on disk, and there is no cache to keep it in.
    #[error(
        "{file} is needed as a file on this machine, and the cache cannot keep it ({why}); give it a folder that can be written to \
         and is large enough"
    )]
    NoCache {
        /// The file.
        file: String,
        /// Why it cannot be kept.
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
    /// What a file says makes no sense.
    pub fn content(file: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Content { file: file.into(), why: why.into() }
    }

    /// Whether files are missing or not what they should be, which asking again does not change.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::TooLarge { .. }
                | Self::Size { .. }
                | Self::Digest { .. }
                | Self::Content { .. }
        )
    }

    pub(crate) fn access(file: String, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Access { file, source: source.into() }
    }
}
