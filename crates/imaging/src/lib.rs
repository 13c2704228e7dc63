//! Images: from bytes to pixels and back, and from pixels to what models take. Every service and the command read and write
//! images here, by one set of rules.

mod bicubic;
pub mod initial;
pub mod mask;
pub mod pictures;
