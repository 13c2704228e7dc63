//! One sample on its way from noise to image: a job that queues itself again after each step.
//!
//! The rows of a guided step run side by side on the sessions of the lane; the last one combines them and takes the step. As a model
//! treats rows independently and all randomness is addressed by (seed, sample, stage, step), a trajectory ends in the same image alone
//! or in company.

mod estimates;
mod outlet;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use reverie_diffusion::guidance::{Condition, MAX_ROWS, Plan, StepKind, StepPlan, combine, rescale};
use reverie_diffusion::{InitialSample, NoiseSource, Sampler, Stream};
use tokio::sync::mpsc;

pub use self::estimates::{Estimate, Estimates};
use self::outlet::Outlet;
use crate::Identity;
use crate::cost::Weight;
use crate::lane::{Call, Lane, RowModel, SubmitError};
use crate::policy::Left;
use crate::work::{Failure, Next, Outlook, Timings, Work};

/// A sample to be drawn: everything that decides the image.
#[derive(Debug)]
pub struct Trajectory<C> {
    /// Elements of x (for an image channels x height x width), at least 1.
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
}

/// What a trajectory has to compute, by the sampler and the plan that it would have.
pub fn rows_of(sampler: &Sampler, plan: &Plan) -> Left {
    let mut rows = (0..sampler.evaluations()).map(|step| plan.step(step).rows().len());
    let first = rows.next().unwrap_or(0);
    Left { rows: first, later_steps: rows.len(), later_rows: rows.sum() }
}

/// What the rows of a trajectory are conditioned on.
pub trait Conditions: Send + Sync + 'static {
    /// How many there are of those whose number requests choose, such as neighbours. A row costs more with more of them.
    fn count(&self) -> usize {
        0
    }
}

/// One conditional evaluation of the model, and where its prediction goes.
#[derive(Debug)]
pub struct Row<C> {
    /// What the model sees.
    pub evaluation: Evaluation<C>,
    /// Where the prediction goes, which is the row's output: every element is to be written.
    pub out: Vec<f32>,
}

/// What the model sees at one conditional evaluation.
#[derive(Debug)]
pub struct Evaluation<C> {
    /// The noisy sample `x_t`, one sample's elements, row-major.
    pub x: Arc<Vec<f32>>,
    /// The training timestep t of `x`.
    pub timestep: f32,
    /// Which of `conditions` this row sees; the others are to be masked.
    pub condition: Condition,
    /// Everything the trajectory is conditioned on.
    pub conditions: Arc<C>,
    /// That of the trajectory: all of its rows have equal `conditions`.
    pub identity: Identity,
}

impl<C: Conditions> Row<C> {
    /// A row of a sample of `elements` that is all zero and sees all of `conditions`, to measure what one costs.
    pub fn typical(elements: usize, output_elements: usize, conditions: C) -> Self {
        let evaluation = Evaluation {
            x: Arc::new(vec![0.0; elements]),
            timestep: 0.0,
            condition: Condition::BOTH,
            conditions: Arc::new(conditions),
            identity: Identity::unique(),
        };
        Self { evaluation, out: vec![0.0; output_elements] }
    }

    /// What it costs relative to others of its model.
    pub fn weight(&self) -> Weight {
        let Evaluation { x, conditions, .. } = &self.evaluation;
        Weight { elements: x.len() as f64, conditions: conditions.count() }
    }
}

impl<C> Evaluation<C> {
    /// The identity of an input that depends on `conditions` alone.
    pub fn of_trajectory(&self) -> Identity {
        self.identity
    }

    /// The identity of an input that depends on `conditions` and on which of them this row sees.
    pub fn of_condition(&self) -> Identity {
        let Condition { text, neighbours } = self.condition;
        self.identity.variant(1 + u8::from(text) + 2 * u8::from(neighbours))
    }
}

/// What a trajectory reports: any number of `Progress`, then one of the other two, always.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A step was taken. Left out, rather than waited for, when the receiver lags behind.
    Progress(Progress),
    /// The image is there.
    Finished(Finished),
    /// There will be no image.
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

impl<C: Conditions> Trajectory<C> {
    /// Queues it on `lane`; never blocks. `progress_events` is how many events the receiver may lag behind before progress is left out.
    ///
    /// The receiver yields [`Event::Progress`] and, always, one last [`Event::Finished`] or [`Event::Failed`]. Dropping it cancels the
    /// trajectory before its next row.
    pub fn submit<M>(
        self,
        lane: &Lane<M>,
        call: Call,
        progress_events: usize,
    ) -> Result<mpsc::Receiver<Event>, SubmitError>
    where
        M: RowModel<Row = Row<C>, Output = Vec<f32>>,
    {
        self.submit_with(lane, call, progress_events, None)
    }

    /// As [`Self::submit`], with `estimates` of x0 on the way. They change nothing of the sample.
    pub fn submit_with<M>(
        self,
        lane: &Lane<M>,
        call: Call,
        progress_events: usize,
        estimates: Option<Estimates>,
    ) -> Result<mpsc::Receiver<Event>, SubmitError>
    where
        M: RowModel<Row = Row<C>, Output = Vec<f32>>,
    {
        let (outlet, events) = Outlet::new(progress_events);
        lane.submit(call, Flight { estimates, ..Flight::new(self, outlet) })?;
        Ok(events)
    }
}

/// A trajectory in a lane.
struct Flight<C> {
    trajectory: Trajectory<C>,
    identity: Identity,
    outlet: Outlet,
    estimates: Option<Estimates>,
    /// `x_t`, where t is the timestep of step `step`; empty before the first.
    x: Arc<Vec<f32>>,
    /// Steps taken, which is also the number of the step to take.
    step: usize,
    /// The rows of that step.
    plan: StepPlan,
    /// Rows of each step.
    rows: Vec<usize>,
    /// Outputs that are no longer read.
    spare: Vec<Vec<f32>>,
    guided: Vec<f32>,
}

impl<C> Flight<C> {
    fn new(trajectory: Trajectory<C>, outlet: Outlet) -> Self {
        let plan = trajectory.plan.step(0);
        let steps = trajectory.sampler.evaluations();
        let rows = (0..steps).map(|step| trajectory.plan.step(step).rows().len()).collect();
        Self {
            trajectory,
            identity: Identity::unique(),
            outlet,
            estimates: None,
            x: Arc::default(),
            step: 0,
            plan,
            rows,
            spare: Vec::new(),
            guided: Vec::new(),
        }
    }

    fn steps(&self) -> usize {
        self.rows.len()
    }

    /// Elements of one row's output.
    fn output_elements(&self) -> usize {
        let elements = self.trajectory.elements;
        if self.trajectory.has_variance { 2 * elements } else { elements }
    }

    /// Draws `x_T`, and puts the image under it that the trajectory starts from.
    fn draw_start(&self) -> Vec<f32> {
        let Trajectory { elements, sampler, noise, initial, .. } = &self.trajectory;
        let mut x = vec![0.0; *elements];
        noise.fill_normal(Stream::InitialNoise, 0, &mut x);
        match initial {
            Some(initial) => initial.begin(sampler, &mut x),
            None => sampler.begin(&mut x),
        }
        x
    }

    /// Moves x one step, given what this step's rows predict.
    fn take_step(&mut self, outputs: &mut [Vec<f32>]) -> Progress {
        let Trajectory { sampler, noise, initial, .. } = &mut self.trajectory;
        let progress = Progress {
            step: self.step + 1,
            steps: self.rows.len(),
            kind: self.plan.kind(),
            timestep: sampler.timestep(self.step),
            rows: outputs.len(),
        };
        // Its rows are gone: nobody else holds it.
        let x = Arc::make_mut(&mut self.x);
        let elements = x.len();
        // What a row says of the variance follows its prediction.
        // A single row has the coefficient 1 and is its own sum.
        let output = if let [only] = outputs {
            only
        } else {
            self.guided.resize(outputs[0].len(), 0.0);
            let (mut coefficients, mut rows) = ([0.0; MAX_ROWS], [&[][..]; MAX_ROWS]);
            for (i, (planned, output)) in self.plan.rows().iter().zip(&*outputs).enumerate() {
                (coefficients[i], rows[i]) = (planned.coefficient, &output[..elements]);
            }
            let (prediction, variance) = self.guided.split_at_mut(elements);
            combine(&coefficients[..progress.rows], &rows[..progress.rows], prediction);
            if self.plan.rescale() > 0.0 {
                rescale(prediction, rows[0], self.plan.rescale());
            }
            // Guidance says nothing of the variance: it is that of the row with all conditions, the first.
            variance.copy_from_slice(&outputs[0][elements..]);
            &mut self.guided
        };
        if let Some(estimates) = &mut self.estimates
            && let now = Instant::now()
            && progress.step < progress.steps
            && estimates.is_due(now)
        {
            let mut x0 = output[..elements].to_vec();
            sampler.x0(self.step, x, &mut x0);
            estimates.give(Estimate { step: progress.step, steps: progress.steps, x0 }, now);
        }
        let taken = if sampler.takes_variance() { output.len() } else { elements };
        sampler.step(self.step, x, &mut output[..taken], noise);
        if let Some(initial) = initial {
            initial.put_back(self.step, sampler, x, noise);
        }
        self.step += 1;
        self.plan = self.trajectory.plan.step(self.step);
        progress
    }
}

impl<M, C> Work<M> for Flight<C>
where
    M: RowModel<Row = Row<C>, Output = Vec<f32>>,
    C: Conditions,
{
    fn outlook(&self) -> Outlook {
        let later = self.rows.get(self.step + 1..).unwrap_or_default();
        Outlook {
            rows: self.rows.get(self.step).copied().unwrap_or_default(),
            later_steps: later.len(),
            later_rows: later.iter().sum(),
            steps_taken: self.step,
            weight: Weight {
                elements: self.trajectory.elements as f64,
                conditions: self.trajectory.conditions.count(),
            },
        }
    }

    fn rows(&mut self) -> Vec<Row<C>> {
        if self.x.is_empty() {
            self.x = Arc::new(self.draw_start());
        }
        let elements = self.output_elements();
        let timestep = self.trajectory.sampler.timestep(self.step);
        let row = |condition, out: Option<Vec<f32>>| Row {
            evaluation: Evaluation {
                x: Arc::clone(&self.x),
                timestep,
                condition,
                conditions: Arc::clone(&self.trajectory.conditions),
                identity: self.identity,
            },
            out: out.unwrap_or_else(|| vec![0.0; elements]),
        };
        self.plan.rows().iter().map(|planned| row(planned.condition, self.spare.pop())).collect()
    }

    fn advance(&mut self, mut outputs: Vec<Vec<f32>>) -> Result<Next, Failure> {
        let progress = self.take_step(&mut outputs);
        self.spare.append(&mut outputs);
        self.outlet.progress(progress);
        if self.step < self.steps() {
            return Ok(Next::Step);
        }
        if self.x.iter().all(|value| value.is_finite()) {
            Ok(Next::Done)
        } else {
            Err(Failure::NotFinite { steps: self.steps() })
        }
    }

    fn is_cancelled(&self) -> bool {
        self.outlet.is_closed()
    }

    fn end(self: Box<Self>, outcome: Result<Timings, Failure>) {
        let Self { outlet, x, .. } = *self;
        outlet.finish(match outcome {
            Ok(timings) => Event::Finished(Finished { x: Arc::unwrap_or_clone(x), timings }),
            Err(failure) => Event::Failed(failure),
        });
    }
}
