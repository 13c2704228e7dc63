//! Why a model cannot be loaded or run, in words that say what to do about it.

use std::fmt::Display;
use std::sync::Arc;

use reverie_packages::PackageError;

use crate::lane::StartError;

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The package is damaged or wrong.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// No ONNX Runtime library was found.
    #[error(
        "no ONNX Runtime library: looked at {looked_at}. Run `cargo xtask onnxruntime`, or set inference.onnxruntime_library \
         or ORT_DYLIB_PATH to a libonnxruntime of at least 1.24"
    )]
    NoRuntime {
        /// Where it was looked for.
        looked_at: String,
    },
    /// The library is there but does not load.
    #[error("the ONNX Runtime library {library} cannot be used: {why}")]
    Runtime {
        /// Its path.
        library: String,
        /// What the loader said.
        why: String,
    },
    /// The library would send and write what nobody asked for.
    #[error(
        "ONNX Runtime is not loaded: it would look up a host of its maker and write to the home folder. Set ORT_DISABLE_TELEMETRY=1 \
         in the environment before the process starts (Reverie's own programs do so themselves)"
    )]
    Telemetry,
    /// An execution provider that was asked for does not start.
    #[error("model package {package}: the execution provider {provider} does not start: {why}")]
    Provider {
        /// The package's name.
        package: String,
        /// The provider's name.
        provider: &'static str,
        /// What ONNX Runtime said.
        why: String,
    },
    /// ONNX Runtime cannot load the graph.
    #[error("model package {package}: ONNX Runtime refuses its graph: {why}")]
    Load {
        /// The package's name.
        package: String,
        /// What ONNX Runtime said.
        why: String,
    },
    /// Its graph computes one row at a time, and the settings ask for more.
    #[error(
        "model package {package} cannot compute {batch} rows in one forward pass: {why}. Set inference.batch to 1"
    )]
    Batch {
        /// The package's name.
        package: String,
        /// What the settings ask for.
        batch: usize,
        /// What is in the way.
        why: String,
    },
    /// Its lane did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A run failed.
    #[error("model package {package}: {why}")]
    Run {
        /// The package's name.
        package: String,
        /// What went wrong.
        why: String,
    },
}

/// A row that a model could not compute. It can be cloned, since several callers may have waited for the row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RowError {
    message: Arc<str>,
}

impl RowError {
    /// The reason, in words.
    pub fn new(reason: impl Display) -> Self {
        Self { message: reason.to_string().into() }
    }
}

impl From<ModelError> for RowError {
    fn from(error: ModelError) -> Self {
        Self::new(error)
    }
}
