//! One sample on its way from noise to picture, and what it reports.

use std::sync::Arc;
use std::time::Instant;

use reverie_diffusion::guidance::{Plan, StepKind};
use reverie_diffusion::{InitialSample, NoiseSource, Sampler};

use crate::model::ModelError;

/// A sample to be drawn: everything that decides the picture, and how long it may take.
#[derive(Debug)]
pub struct Trajectory<C> {
    /// Elements of x (for a picture channels x height x width), at least 1.
    pub elements: usize,
    /// Whether the model's output has as many elements again, which say what it has learned of the variance.
    pub has_variance: bool,
    /// How x moves.
    pub sampler: Sampler,
    /// Which rows each step takes.
    pub plan: Plan,
    /// Where `x_T` and the noise of each step come from.
    pub noise: NoiseSource,
    /// What it starts from besides noise, of as many elements.
    pub initial: Option<InitialSample>,
    /// What the model sees beside x and t.
    pub conditions: Arc<C>,
    /// When the picture stops being of use.
    pub deadline: Option<Instant>,
}

impl<C> Trajectory<C> {
    /// Elements of one row's output.
    pub(crate) fn output_elements(&self) -> usize {
        if self.has_variance { 2 * self.elements } else { self.elements }
    }
}

/// What a trajectory reports: any number of `Progress`, then one of the other two, always.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A step was taken. Left out, rather than waited for, when the receiver lags behind.
    Progress(Progress),
    /// The picture is there.
    Finished(Finished),
    /// There will be no picture.
    Failed(Failure),
}

/// A step was taken. Samplers that evaluate the model several times a step take each for a step here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps taken, from 1.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// What guided this step.
    pub kind: StepKind,
    /// The training timestep the model was evaluated at.
    pub timestep: f32,
    /// Rows this step took.
    pub rows: usize,
}

/// A finished sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// `x_0`, as the sampler left it.
    pub x: Vec<f32>,
    /// Where the time went.
    pub timings: Timings,
}

/// Where one trajectory's time went, in seconds.
///
/// A pass is shared among its trajectories by their rows, so that the shares of all trajectories add up to the time
/// the worker was busy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timings {
    /// From submission to admission.
    pub queued_seconds: f64,
    /// Its share of the forward passes.
    pub model_seconds: f64,
    /// Its share of everything else: noise, guidance, thresholding, sampler.
    pub overhead_seconds: f64,
    /// From submission to the end, as its user saw it.
    pub elapsed_seconds: f64,
}

impl Timings {
    /// Its share of the worker's time.
    pub fn computing_seconds(&self) -> f64 {
        self.model_seconds + self.overhead_seconds
    }
}

/// Why there will be no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The deadline passed, in the queue or between two steps.
    #[error("the deadline passed after {step} of {steps} steps")]
    DeadlineExceeded {
        /// Steps taken.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// The model failed at one of its rows.
    #[error("the model failed: {0}")]
    Model(#[from] ModelError),
    /// The forward pass panicked.
    #[error("the model panicked: {0}")]
    ModelPanicked(String),
    /// Drawing the start or taking a step panicked, which is a defect of the scheduler or of the sampler.
    #[error("the sampler panicked: {0}")]
    StepPanicked(String),
    /// The model or the guidance weights drove x to infinity or NaN.
    #[error("the sample is not finite after {steps} steps")]
    NotFinite {
        /// Steps taken.
        steps: usize,
    },
    /// The worker thread died.
    #[error("the step scheduler's worker is gone")]
    WorkerGone,
}
