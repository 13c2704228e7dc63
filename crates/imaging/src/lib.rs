//! Images: from bytes to pixels and back, and from pixels to what models take. Every service and the command read and write
//! images here, by one set of rules.

mod bicubic;
mod colour;
pub mod encoded;
mod error;
pub mod fit;
pub mod format;
pub mod initial;
mod jpeg;
pub mod mask;
pub mod pictures;
pub mod pool;
pub mod preview;
pub mod upsample;

pub use encoded::Encoded;
pub use error::PictureError;
