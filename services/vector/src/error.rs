//! What can be wrong with a collection.

use reverie_storage::StorageError;

/// Why a collection cannot be built, loaded or searched.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// Its files cannot be read, or are damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The folder holds another knowledge base.
    #[error("it holds the knowledge base {found:?}; name it so in the settings, or give another location")]
    Name {
        /// The name in the manifest.
        found: String,
    },
    /// The index is not what the manifest says.
    #[error(
        "the index of segment {segment} is not what the manifest says: {why}; build the knowledge base again"
    )]
    Index {
        /// The segment.
        segment: String,
        /// What differs.
        why: String,
    },
    /// A vector cannot be indexed.
    #[error("vector {position} {why}")]
    Vector {
        /// Its position.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The index failed.
    #[error("the index failed: {0}")]
    Engine(String),
}

impl CollectionError {
    pub(crate) fn engine(error: &dyn std::fmt::Display) -> Self {
        Self::Engine(error.to_string())
    }
}
