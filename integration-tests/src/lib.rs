//! What the tests of all services together share: the mesh in one process, the mesh as six processes, quick requests, the
//! creatures they are about, mutations of valid inputs, attacks, servers of object storage, certificates, and a collector of traces.

pub mod admin;
pub mod attack;
pub mod authority;
pub mod collector;
pub mod creatures;
pub mod folders;
pub mod health;
pub mod locked;
pub mod mesh;
pub mod mutation;
pub mod processes;
pub mod requests;
pub mod samplers;
pub mod servers;

/// What a test may fail with besides its assertions.
pub type Fallible<T> = Result<T, reverie::Failure>;

/// The number in an environment variable, by which a test is made longer or repeated.
pub fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The root of the workspace, absolute.
pub const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The bundle that everything is tested with, absolute.
pub const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary");
