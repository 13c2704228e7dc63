//! Knowledge bases on disk and in object storage: immutable epochs, how one follows another, and the format of their index. Every file
//! is verified before anyone looks inside, and nothing is ever overwritten: a name, once written, keeps its bytes.
//!
//! The index of vectors ([`index`]) is built and searched with usearch, which only programs with the feature `index` contain.

pub mod compaction;
pub mod epoch;
mod epochs;
mod hit;
#[cfg(feature = "index")]
pub mod index;
mod live;
mod merge;
mod settings;
mod unit_vector;

pub use epochs::{Commit, Epochs};
pub use hit::Hit;
pub use live::{Live, LoadError, NotLoaded, Read, follow, one_is_loaded};
pub use merge::{MergeError, Merged, merge};
pub use settings::EpochSettings;
pub use unit_vector::UnitVector;
