//! What can be wrong with a model, in words that say how to mend it.

use reverie_knowledge::StorageError;

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
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
    /// A run failed.
    #[error("model package {package}: {why}")]
    Run {
        /// The package's name.
        package: String,
        /// What went wrong.
        why: String,
    },
}
