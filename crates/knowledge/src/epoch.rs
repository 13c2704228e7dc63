//! A knowledge base on disk: one immutable epoch in one folder.
//!
//! ```text
//! manifest.json                   what there is; written last, so that a folder with a manifest is complete
//! segments/000001/entries.jsonl   one entry a line: id, caption, attribution, metadata, where its picture lies in the pack
//! segments/000001/images.pack     encoded pictures, back to back
//! segments/000001/vectors.usearch the pictures' vectors, each once; the key is the position of the first entry that has it
//! segments/000001/vectors.keys    the key of each entry's vector; left out where all vectors differ
//! ```
//!
//! Every file but the manifest is verified against it before it is used. What the manifest says of its files is the
//! knowledge base's identity, [`Manifest::content_digest`]: two services work on the same entries if theirs are equal.

mod entry;
mod manifest;
mod metadata;
mod segment;
mod texts;
mod write;

pub use entry::{Entry, Label};
pub use manifest::Manifest;
pub use metadata::{Metadata, Value, check_key, check_metadata};
pub use segment::{Segment, Vectors};
pub use texts::{
    MAX_ENTRY_TEXT_BYTES, check_attribution, check_caption, check_description, check_id, check_name,
};
pub use write::{NewEpoch, write_epoch, write_epoch_from};

#[cfg(test)]
mod tests;
