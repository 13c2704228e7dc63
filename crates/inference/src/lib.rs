//! Model packages on ONNX Runtime: find and verify a package, check that its graph is what `model.toml` says, run it.
//!
//! Nothing here is asynchronous but the reading of files: callers run models on threads of their own.

pub mod bundle;
pub mod error;
pub mod execution;
pub mod model;
pub mod onnx;
pub mod package;
pub mod pool;
pub mod runtime;
pub mod tokenizer;
pub mod weights;

pub use bundle::Bundle;
pub use error::ModelError;
pub use execution::InferenceSettings;
pub use model::{Input, Model, Values};
pub use package::{Package, Role};
pub use pool::{JobError, SessionPool};
pub use tokenizer::{TokenizedText, Tokenizer};
