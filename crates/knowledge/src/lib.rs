//! Knowledge bases on disk: immutable epochs, the format of their index, and the folders that they and model packages are read
//! from. Every file is verified before anyone looks inside, and nothing is ever overwritten: a name, once written, keeps its bytes.
//!
//! The index of vectors ([`index`]) is built and searched with usearch, which only programs with the feature `index` contain.

pub mod digest;
pub mod epoch;
pub mod error;
pub mod folder;
#[cfg(feature = "index")]
pub mod index;
mod unit_vector;

pub use digest::{FileDigest, Verifying, sha256_hex};
pub use error::StorageError;
pub use folder::{Folder, local_path};
pub use unit_vector::UnitVector;
