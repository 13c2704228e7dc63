//! The cascade over stages that the tests play.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test, and stages that fail as they are told to")]

mod anytime;
mod failures;
mod leaving;
mod mesh;
mod several;
mod stages;
mod step_previews;
