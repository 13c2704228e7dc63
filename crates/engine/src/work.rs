//! What a lane does for one request: steps one after another, each of rows that may run side by side.

use std::time::Duration;

use crate::RowError;
use crate::cost::Weight;
use crate::lane::RowModel;

/// A job: its rows, what to do with their outputs, and whom to tell.
///
/// The lane's threads call it, one at a time.
pub trait Work<M: RowModel>: Send {
    /// What is left to compute, from the current step on.
    fn outlook(&self) -> Outlook;

    /// The rows of the current step, as many as [`Outlook::rows`] says; asked for once each step. The first time, it also prepares the
    /// job, such as by drawing noise.
    fn rows(&mut self) -> Vec<M::Row>;

    /// Ends the current step, given the outputs of its rows in their order.
    fn advance(&mut self, outputs: Vec<M::Output>) -> Result<Next, Failure>;

    /// Whether nobody waits for it any more. It is dropped before its next row.
    fn is_cancelled(&self) -> bool;

    /// Tells whoever waits how it ended; not called if nobody waits.
    fn end(self: Box<Self>, outcome: Result<Timings, Failure>);
}

/// What is left of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Rows of the current step, at least 1.
    pub rows: usize,
    /// Steps after it.
    pub later_steps: usize,
    /// Rows of those steps.
    pub later_rows: usize,
    /// Steps taken.
    pub steps_taken: usize,
    /// What a row costs relative to other jobs' rows on the same lane.
    pub weight: Weight,
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another step.
    Step,
    /// Nothing: the result is there.
    Done,
}

/// Where the time of a job went.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timings {
    /// Waiting: for its first row, and between its rows while others ran.
    pub queued: Duration,
    /// In its rows; rows that ran side by side count once.
    pub model: Duration,
    /// Between its rows: noise, guidance, thresholding, sampler.
    pub overhead: Duration,
    /// Rows that were computed.
    pub rows: u64,
}

impl Timings {
    /// The time in which it was worked on.
    pub fn computing(&self) -> Duration {
        self.model + self.overhead
    }

    /// From submission to the end.
    pub fn elapsed(&self) -> Duration {
        self.queued + self.computing()
    }
}

/// Why a job has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The deadline passed, or the steps that were left could no longer be done before it.
    #[error("the deadline passed after {step} of {steps} steps")]
    DeadlineExceeded {
        /// Steps taken.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// The model failed at one of its rows.
    #[error("the model failed: {0}")]
    Model(#[from] RowError),
    /// The model panicked at one of its rows.
    #[error("the model panicked: {0}")]
    ModelPanicked(String),
    /// A step panicked, which is a defect of the sampler.
    #[error("the sampler panicked: {0}")]
    StepPanicked(String),
    /// The model or the guidance weights drove x to infinity or NaN.
    #[error("the sample is not finite after {steps} steps")]
    NotFinite {
        /// Steps taken.
        steps: usize,
    },
    /// A thread of the lane died.
    #[error("a thread that runs the model died")]
    LaneGone,
}
