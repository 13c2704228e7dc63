//! What can be wrong with a model package, in words that say how to mend it.

use reverie_storage::StorageError;

/// Why a package cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file of a package is missing or altered.
    #[error("model package {package}: {source}")]
    File {
        /// Where the package is.
        package: String,
        /// What is wrong.
        source: StorageError,
    },
    /// `model.toml` or `bundle.toml` is not valid.
    #[error("{file}: {why}")]
    Manifest {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The graph is not what `model.toml` says.
    #[error(
        "model package {package}: its graph does not match model.toml: {why}. Export or import the package again"
    )]
    Graph {
        /// The package's name.
        package: String,
        /// Where they differ.
        why: String,
    },
}
