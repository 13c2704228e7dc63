//! How far a picture has come, for a caller whose time is up.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use reverie_proto::generation::v1::Stage;
use reverie_proto::names::Named as _;

/// Where a run is.
#[derive(Debug, Default)]
pub(crate) struct Position(Mutex<Option<At>>);

#[derive(Debug, Clone, Copy)]
struct At {
    stage: Stage,
    /// Steps taken, of how many.
    steps: Option<(u32, u32)>,
}

impl Position {
    /// `stage` begins.
    pub(crate) fn enter(&self, stage: Stage) {
        self.set(At { stage, steps: None });
    }

    /// `step` of the `steps` of `stage` are taken.
    pub(crate) fn step(&self, stage: Stage, step: u32, steps: u32) {
        self.set(At { stage, steps: Some((step, steps)) });
    }

    fn set(&self, at: At) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(At { stage, steps }) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else {
            return f.write_str("before the first stage");
        };
        let name = stage.name().replace('_', "-");
        write!(f, "in stage {name}")?;
        match steps {
            Some((step, steps)) => write!(f, ", after {step} of {steps} steps"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_told_with_its_steps() {
        let position = Position::default();
        assert_eq!(position.to_string(), "before the first stage");
        position.enter(Stage::Retrieve);
        assert_eq!(position.to_string(), "in stage retrieve");
        position.step(Stage::SuperResolution1, 3, 16);
        assert_eq!(position.to_string(), "in stage super-resolution-1, after 3 of 16 steps");
    }
}
