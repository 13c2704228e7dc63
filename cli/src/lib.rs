//! The `reverie` command: the client of the mesh, the whole mesh in one process, and the import of models and knowledge.
//!
//! The mesh in one process is its services over in-memory streams: the same gRPC, no second code path.

// They panic where standard output is closed or full: `say!` is the way.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod capabilities;
pub mod client;
pub mod credentials;
pub mod gallery;
pub mod generate;
mod initial;
pub mod keys;
pub mod knowledge;
pub mod mesh;
pub mod models;
pub mod names;
pub mod picture_file;
pub mod program;
pub mod progress;
mod publish;
pub mod report;
mod selection;
pub mod serve;
pub mod sheet;

/// What a command may fail with; told to the user as it is.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
