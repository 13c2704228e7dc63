//! What the pipeline tells of its images through the OpenTelemetry metrics API: how many there were by outcome, and how long each stage
//! took.

use std::sync::OnceLock;

use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};
use tonic::{Code, Status};

use crate::position::Place;

/// Upper bounds of the histogram of stage times, in seconds.
const SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// A request that was admitted. Dropped before its end, it was cancelled.
pub(crate) struct Measured {
    has_ended: bool,
}

impl Measured {
    pub(crate) fn begin() -> Self {
        Self { has_ended: false }
    }

    /// It ended with an image or with a status.
    pub(crate) fn end(mut self, outcome: Result<(), &Status>) {
        self.has_ended = true;
        count(match outcome.map_err(Status::code) {
            Ok(()) => "drawn",
            Err(Code::DeadlineExceeded) => "expired",
            Err(Code::Cancelled) => "cancelled",
            Err(
                Code::ResourceExhausted
                | Code::InvalidArgument
                | Code::NotFound
                | Code::FailedPrecondition
                | Code::OutOfRange,
            ) => "refused",
            Err(_) => "failed",
        });
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if !self.has_ended {
            count("cancelled");
        }
    }
}

/// A stage of an image took so long, its waiting included.
pub(crate) fn stage(place: Place, seconds: f64) {
    instruments().stages.record(seconds, &[KeyValue::new("stage", place.to_string())]);
}

/// An image was drawn; `degraded`, if it is smaller than was asked for.
pub(crate) fn image(degraded: bool) {
    instruments().images.add(1, &[KeyValue::new("degraded", degraded)]);
}

fn count(outcome: &'static str) {
    instruments().requests.add(1, &[KeyValue::new("outcome", outcome)]);
}

struct Instruments {
    requests: Counter<u64>,
    images: Counter<u64>,
    stages: Histogram<f64>,
}

fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = global::meter("reverie-pipeline");
        Instruments {
            requests: meter
                .u64_counter("reverie.requests")
                .with_description("Requests for an image that were admitted, by how they ended")
                .build(),
            images: meter
                .u64_counter("reverie.images")
                .with_description("Images that were drawn, by whether they are smaller than was asked for")
                .build(),
            stages: meter
                .f64_histogram("reverie.stage.duration")
                .with_unit("s")
                .with_description("Time of one stage of an image, its waiting included")
                .with_boundaries(SECONDS.to_vec())
                .build(),
        }
    })
}
