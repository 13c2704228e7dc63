//! Knowledge bases on disk and in object storage: immutable epochs, and the format of their index. Every file is verified before
//! anyone looks inside, and nothing is ever overwritten: a name, once written, keeps its bytes.
//!
//! The index of vectors ([`index`]) is built and searched with usearch, which only programs with the feature `index` contain.

pub mod epoch;
mod hit;
#[cfg(feature = "index")]
pub mod index;
mod unit_vector;

pub use hit::Hit;
pub use unit_vector::UnitVector;
