//! Model packages: find and verify a package, read its `model.toml`, its ONNX graph and its tokenizer.
//!
//! Nothing here runs a model: sessions of ONNX Runtime are in `reverie-engine`.

pub mod bundle;
pub mod error;
pub mod onnx;
pub mod package;
pub mod tokenizer;
pub mod weights;

pub use bundle::Bundle;
pub use error::PackageError;
pub use package::{Package, Role};
pub use tokenizer::{TokenizedText, Tokenizer};
