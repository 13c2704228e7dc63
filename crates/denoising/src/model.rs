//! What the scheduler needs of a model: rows in, predictions out.

use std::fmt::Display;
use std::sync::Arc;

use reverie_diffusion::guidance::Condition;

/// One conditional evaluation of the model.
#[derive(Debug)]
pub struct Row<'a, C> {
    /// The noisy sample `x_t`, one sample's elements, row-major.
    pub x: &'a [f32],
    /// The training timestep t of `x`.
    pub timestep: f32,
    /// Which of `conditions` this row sees; the others are to be masked.
    pub condition: Condition,
    /// Everything the trajectory is conditioned on.
    pub conditions: &'a C,
    /// Where the prediction goes: as many elements as the trajectory's outputs have, every one to be written.
    pub out: &'a mut [f32],
}

/// A model that evaluates rows, each independently of the others in its pass.
///
/// It lives on the scheduler's thread, so `forward` may block and compute as it likes.
pub trait RowModel: Send + 'static {
    /// What one trajectory is conditioned on; shared by its rows and steps.
    type Conditions: Send + Sync + 'static;

    /// The most rows one forward pass can take.
    fn max_rows(&self) -> usize;

    /// Evaluates `rows` (between 1 and [`Self::max_rows`]) in one pass, and gives what came of each, in their order.
    ///
    /// An error fails the row's trajectory and no other; a panic fails all of this pass. The model is used again in both cases.
    fn forward(&mut self, rows: &mut [Row<'_, Self::Conditions>]) -> Vec<Result<(), ModelError>>;
}

/// The evaluation of a row failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    message: Arc<str>,
}

impl ModelError {
    /// The reason, in words; the row's trajectory is told.
    pub fn new(reason: impl Display) -> Self {
        Self { message: reason.to_string().into() }
    }
}
