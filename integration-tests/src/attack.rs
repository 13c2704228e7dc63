//! A mesh under attack: faults come and go while callers draw, search and write, and what the mesh promises is checked.
//!
//! [`Besieged`] is the mesh with a proxy on every way between two services, [`Fault`] what happens to it, [`Traffic`] its callers, and
//! [`promises`] what must hold whatever happens.

mod besieged;
mod fault;
pub mod own_mounts;
pub mod promises;
mod proxy;
mod traffic;
mod usage;

pub use besieged::Besieged;
pub use fault::{Fault, Kind, kinds, schedule};
pub use proxy::{Proxy, Wire};
pub use traffic::{Call, Changed, Deed, Outcome, Traffic};
pub use usage::Usage;
