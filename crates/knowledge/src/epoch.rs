//! An epoch of a knowledge base: what it holds at a time, in a folder that also has the earlier ones.
//!
//! ```text
//! manifest.json                   the first epoch; written last, so that a folder with a manifest is complete
//! epochs/000000000002.json        a later one ([`Epochs`](crate::Epochs)), which lists the segments that it consists of
//! segments/000001/entries.jsonl   one entry a line: id, caption, attribution, metadata, where its picture lies in the pack
//! segments/000001/images.pack     encoded pictures, back to back
//! segments/000001/vectors.usearch the pictures' vectors, each once; the key is the position of the first entry that has it
//! segments/000001/vectors.keys    the key of each entry's vector; left out where all vectors differ
//! segments/000001/captions.index  what retrieval works out of the captions, where they are many
//! segments/000001/deleted-….bitmap which of its entries an epoch has no more
//! ```
//!
//! Every file but the manifests is verified against one before it is used. What a manifest says of its files is the
//! epoch's identity, [`Manifest::content_digest`]: two services work on the same entries if theirs are equal.

mod entry;
mod manifest;
mod metadata;
mod segment;
mod texts;
mod vector_kind;
mod write;

pub use entry::{Entry, Label};
pub(crate) use manifest::{MANIFEST, MAX_MANIFEST_BYTES};
pub use manifest::{MAX_SNAPSHOTS, Manifest, Snapshot};
pub use metadata::{Metadata, Value, check_key, check_metadata};
pub(crate) use segment::SEGMENTS;
pub use segment::{Deleted, Segment, Vectors};
pub use texts::{
    MAX_ENTRY_TEXT_BYTES, MAX_NAME_BYTES, MAX_TEXT_BYTES, check_attribution, check_caption,
    check_description, check_id, check_name,
};
pub use vector_kind::VectorKind;
pub use write::{NewEpoch, write_empty, write_epoch, write_epoch_from, write_segment};

#[cfg(test)]
mod tests;
