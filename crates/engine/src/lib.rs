//! How the forward passes of many requests share one model.
//!
//! [`policy`] decides whose row runs next and which requests are admitted. It is plain arithmetic over a list of jobs: no
//! threads, no clock of its own, no model. `tests/simulator` runs it against seeded arrivals, and `docs/engine.md` has the
//! figures.

pub mod policy;
