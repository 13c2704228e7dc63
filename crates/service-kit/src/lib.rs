//! What every service needs and none should write twice: settings, telemetry, serving and draining, health that tells
//! the truth, errors with details, deadlines and trace context, and channels to other services.

// They panic where standard output is closed or full: `output` is the way.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod admission;
mod causes;
pub mod client;
mod connections;
pub mod context;
pub mod doorkeeper;
mod ending;
mod gate;
pub mod guidance;
pub mod health;
pub mod listener;
pub mod output;
pub mod process;
mod protocol;
pub mod ranges;
mod readiness;
pub mod refusal;
mod self_check;
pub mod serve;
pub mod settings;
pub mod telemetry;
pub mod tls;
mod transport;
pub mod watched;
pub mod web;

pub use admission::Permit;
pub use causes::{causes, is_caused_by};
pub use context::Context;
pub use health::{Health, Unfit};
pub use listener::{Address, ListenAddress, Listener};
pub use refusal::{Refusal, Violations};
pub use serve::{RunError, Server, Standing};
/// Ends a service when cancelled: it drains, then `run` returns.
pub use tokio_util::sync::CancellationToken as Shutdown;
