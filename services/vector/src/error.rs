//! What can be wrong with a collection.

use reverie_knowledge::LoadError;
use reverie_knowledge::index::IndexError;
use reverie_storage::StorageError;
use tonic::Status;

/// Why a collection cannot be loaded or searched.
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
    /// An entry has no vector.
    #[error("it has no entry {key}")]
    Missing {
        /// The key.
        key: u64,
    },
    /// The index cannot be loaded or searched.
    #[error(transparent)]
    Engine(#[from] IndexError),
    /// Milvus did not do it.
    #[error("Milvus: {doing}: {why}")]
    Milvus {
        /// What it was asked for.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// The caller's deadline passed meanwhile.
    #[error("{}", .0.message())]
    OutOfTime(Box<Status>),
    /// Nothing there compares a vector with every entry.
    #[error("exact searches and the recall need milvus.index = \"FLAT\", it is {index}")]
    NotExact {
        /// The index.
        index: &'static str,
    },
    /// Loading it ended early.
    #[error("loading it ended early: {0}")]
    Loading(#[from] tokio::task::JoinError),
}

impl CollectionError {
    pub(crate) fn milvus(doing: &'static str, why: impl Into<String>) -> Self {
        Self::Milvus { doing, why: why.into() }
    }
}

impl LoadError for CollectionError {
    fn is_damage(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_damage(),
            Self::Name { .. }
            | Self::Loading(_)
            | Self::Milvus { .. }
            | Self::OutOfTime(_)
            | Self::NotExact { .. } => false,
            Self::Index { .. } | Self::Missing { .. } | Self::Engine(_) => true,
        }
    }
}
