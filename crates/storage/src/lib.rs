//! Folders in object storage, files that are verified before anyone looks inside, and knowledge bases as immutable
//! epochs. Nothing is ever overwritten: a name, once written, keeps its bytes.

pub mod digest;
pub mod error;
pub mod folder;
pub mod knowledge;

pub use digest::{FileDigest, Verifying, sha256_hex};
pub use error::StorageError;
pub use folder::{Folder, local_path};
