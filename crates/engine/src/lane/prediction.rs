//! What work is predicted to take, for those who decide on it before it comes to the lane.

use crate::cores::{self, Cores};
use crate::policy::{Left, Seconds};

/// What computes the rows of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// Lanes with equal numbers share it: the cores of a process, or a model on a GPU.
    pub id: u64,
    /// Cores, or rows that are computed at a time.
    pub units: usize,
}

/// What some work is predicted to take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// If nothing else ran.
    pub seconds: Seconds,
    /// What computes it.
    pub resource: Resource,
    /// Seconds of one unit of the resource.
    pub unit_seconds: Seconds,
    /// The same of the work that the lane has from others than the process that plans this.
    pub of_others: Seconds,
}

/// How a lane uses what it computes with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    resource: Resource,
    /// Units that a row keeps busy.
    of_a_row: f64,
}

impl Use {
    /// Of a lane whose passes have room for `batch` rows and keep `cores_of_a_pass` of `cores` busy, or none, on a GPU.
    pub(super) fn new(cores: &Cores, cores_of_a_pass: usize, sessions: usize, batch: usize) -> Self {
        if cores_of_a_pass == 0 {
            let resource = Resource { id: cores::unique_id(), units: sessions * batch };
            return Self { resource, of_a_row: 1.0 };
        }
        let resource = Resource { id: cores.id(), units: cores.total() };
        Self { resource, of_a_row: cores_of_a_pass.min(cores.total()) as f64 / batch as f64 }
    }

    /// What `rows` take of it that take `seconds` each.
    pub(super) fn unit_seconds(self, rows: f64, seconds: Seconds) -> Seconds {
        rows * seconds * self.of_a_row
    }

    /// A prediction for `left`, if a pass takes `computing` and the lane computes `slots` rows at a time.
    pub(super) fn predict(
        self,
        left: Left,
        computing: Seconds,
        slots: usize,
        of_others: Seconds,
    ) -> Prediction {
        Prediction {
            seconds: computing * left.passes(slots),
            resource: self.resource,
            unit_seconds: self.unit_seconds(left.all_rows() as f64, computing),
            of_others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_of_a_process_share_its_cores_and_those_of_a_gpu_share_nothing() {
        let cores = Cores::new(4);
        let left = Left { rows: 2, later_steps: 9, later_rows: 18 };
        let predict = |cores_of_a_pass, sessions, batch| {
            Use::new(&cores, cores_of_a_pass, sessions, batch).predict(left, 0.1, sessions * batch, 0.0)
        };
        let (one, two) = (predict(1, 4, 1), predict(2, 2, 1));
        assert_eq!(one.resource, two.resource);
        assert_eq!(one.resource.units, 4);
        assert!((one.seconds - 1.0).abs() < 1e-9 && (one.unit_seconds - 2.0).abs() < 1e-9, "{one:?}");
        assert!((two.seconds - 1.0).abs() < 1e-9 && (two.unit_seconds - 4.0).abs() < 1e-9, "{two:?}");
        let (gpu, other) = (predict(0, 1, 2), predict(0, 1, 2));
        assert_ne!(gpu.resource.id, other.resource.id);
        assert_eq!(gpu.resource.units, 2);
        assert!((gpu.seconds - 1.0).abs() < 1e-9 && (gpu.unit_seconds - 2.0).abs() < 1e-9, "{gpu:?}");
    }
}
