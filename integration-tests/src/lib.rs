//! What the tests of all services together share: the mesh in one process, the mesh as six processes, quick requests, the
//! creatures they are about, mutations of valid inputs, attacks, servers of object storage, certificates, and a collector of traces.

pub mod admin;
pub mod attack;
pub mod authority;
pub mod bases;
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
pub fn number(variable: &str, otherwise: u64) -> Fallible<u64> {
    match std::env::var(variable) {
        Ok(text) => {
            text.parse().map_err(|_| format!("{variable} must be a whole number (it is {text:?})").into())
        }
        Err(_) => Ok(otherwise),
    }
}

/// The root of the workspace, absolute.
pub const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The bundle that everything is tested with, absolute.
pub const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary");
