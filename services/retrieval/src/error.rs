//! What can be wrong with a knowledge base.

use reverie_knowledge::LoadError;
use reverie_storage::StorageError;
use tantivy::TantivyError;

/// Why a knowledge base cannot be loaded or searched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KnowledgeError {
    /// Its files cannot be read, or are damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The folder holds another knowledge base.
    #[error("it holds the knowledge base {found:?}; name it so in the settings, or give another location")]
    Name {
        /// The name in the manifest.
        found: String,
    },
    /// A picture cannot be sent to anyone.
    #[error("the picture of entry {id:?} {why}; build the knowledge base again without it")]
    Picture {
        /// The entry.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two entries have the same id.
    #[error("two entries have the id {id:?}; build the knowledge base again")]
    Twice {
        /// The id.
        id: String,
    },
    /// Vectors of it, which the vector service reads.
    #[error("the vector service cannot load it: {why}")]
    Vectors {
        /// What it says.
        why: String,
    },
    /// The captions cannot be indexed.
    #[error("the captions cannot be indexed: {0}")]
    Captions(#[from] TantivyError),
    /// Indexing was cut off.
    #[error("indexing the captions was cut off: {0}")]
    CutOff(#[from] tokio::task::JoinError),
}

impl LoadError for KnowledgeError {
    fn is_damage(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_damage(),
            Self::Name { .. } | Self::CutOff(_) => false,
            Self::Picture { .. } | Self::Twice { .. } | Self::Vectors { .. } | Self::Captions(_) => true,
        }
    }
}
