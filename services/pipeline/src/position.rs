//! How far an image has come, for a caller whose time is up.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reverie_proto::generation::v1::Stage;
use reverie_proto::names::Named as _;
use reverie_service_kit::Context;

use crate::admission::Booking;

/// A stage of the cascade; each super-resolution level is one. They are ordered as an image goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) stage: Stage,
    /// Of super-resolution, which level, from 1.
    pub(crate) level: u32,
}

impl Place {
    /// The super-resolution level at `index`, from 0.
    pub(crate) fn level(index: usize) -> Self {
        Self { stage: Stage::SuperResolution, level: 1 + index as u32 }
    }
}

impl Place {
    /// Encoding and retrieval come together.
    fn order(self) -> (u8, u32) {
        let stage = match self.stage {
            Stage::Unspecified | Stage::Encode | Stage::Retrieve => 0,
            Stage::EncodePicture => 1,
            Stage::Base => 2,
            Stage::Decode => 3,
            Stage::SuperResolution => 4,
        };
        (stage, self.level)
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        // What comes together is told apart, but for no other reason.
        self.order().cmp(&other.order()).then((self.stage as i32).cmp(&(other.stage as i32)))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Stage> for Place {
    fn from(stage: Stage) -> Self {
        Self { stage, level: 0 }
    }
}

/// Where an image is, or what comes before all images of a request, and what is booked for it.
#[derive(Default)]
pub(crate) struct Position {
    at: Mutex<Option<At>>,
    booking: Option<Arc<Booking>>,
    /// Which image, from 0.
    image: usize,
}

#[derive(Debug, Clone, Copy)]
struct At {
    place: Place,
    /// Steps taken, of how many.
    steps: Option<(u32, u32)>,
}

impl Position {
    /// Of a run that has not begun.
    pub(crate) fn new(booking: Booking) -> Self {
        Self { booking: Some(Arc::new(booking)), ..Self::default() }
    }

    /// The position of one image of the request, which has not begun.
    pub(crate) fn of_image(&self, image: usize) -> Self {
        Self { at: Mutex::default(), booking: self.booking.clone(), image }
    }

    /// Whether the stage at `place` can be done by the deadline of `context`, as far as is known.
    pub(crate) fn can_do(&self, context: Context, place: Place) -> bool {
        self.booking.as_ref().is_none_or(|booking| booking.can_do(context, self.image, place))
    }

    /// The image has ended, drawn or not.
    pub(crate) fn end(&self) {
        if let Some(booking) = &self.booking {
            booking.end(self.image);
        }
    }

    /// Predicted time of the stage at `place`, if nothing else ran.
    pub(crate) fn time_of(&self, place: impl Into<Place>) -> Duration {
        let seconds = self.booking.as_ref().map_or(0.0, |booking| booking.of(place.into()));
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// Predicted time of the stages after `place`, if nothing else ran.
    pub(crate) fn time_after(&self, place: impl Into<Place>) -> Duration {
        let seconds = self.booking.as_ref().map_or(0.0, |booking| booking.after(self.image, place.into()));
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// A stage begins.
    pub(crate) fn enter(&self, place: impl Into<Place>) {
        self.set(At { place: place.into(), steps: None });
    }

    /// `step` of the `steps` of a stage are taken.
    pub(crate) fn step(&self, place: Place, step: u32, steps: u32) {
        self.set(At { place, steps: Some((step, steps)) });
    }

    fn set(&self, at: At) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        if let Some(booking) = &self.booking {
            let share = |(step, steps)| f64::from(step) / f64::from(steps).max(1.0);
            booking.reach(self.image, at.place, at.steps.map_or(0.0, share));
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stage.name().replace('_', "-"))?;
        if self.level > 0 { write!(f, "-{}", self.level) } else { Ok(()) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(At { place, steps }) = *self.at.lock().unwrap_or_else(PoisonError::into_inner) else {
            return f.write_str("before the first stage");
        };
        write!(f, "in stage {place}")?;
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
        position.step(Place::level(0), 3, 16);
        assert_eq!(position.to_string(), "in stage super-resolution-1, after 3 of 16 steps");
    }
}
