//! Where models and knowledge bases are read from: folders on disk and in object storage, and the cache between the two.
//!
//! A [`Folder`] is a place; every file that a manifest lists by its digest is verified as it is read. Files of object storage are
//! kept in a [`Cache`] by their digest, which the processes of a machine share. Nothing is ever overwritten: a name, once written,
//! keeps its bytes.

pub mod cache;
pub mod digest;
pub mod error;
mod explain;
pub mod folder;
mod location;
mod progress;
pub mod publish;
mod settings;
mod source;

pub use cache::Cache;
pub use digest::{FileDigest, Verifying, sha256_hex};
pub use error::StorageError;
pub use folder::{Folder, Listed, LocalFile};
pub use location::{cache_folder, local_path};
pub use progress::{Transfer, Watch};
pub use settings::{Storage, StorageSettings};
