//! The worker thread: admit, pick, evaluate, step; one tick after another.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use reverie_diffusion::Stream;
use reverie_diffusion::guidance::{MAX_ROWS, StepPlan, combine, rescale};
use tracing::{Span, debug, trace, warn};

use crate::model::{ModelError, Row, RowModel};
use crate::outlet::Outlet;
use crate::queue::{Queue, Waiting};
use crate::trajectory::{Event, Failure, Finished, Progress, Timings, Trajectory};

/// A trajectory in progress.
struct Active<C> {
    trajectory: Trajectory<C>,
    outlet: Outlet,
    span: Span,
    submitted: Instant,
    /// `x_t`, where t is the timestep of step `step`.
    x: Vec<f32>,
    /// Steps taken, which is also the number of the step to take.
    step: usize,
    /// The rows of that step.
    plan: StepPlan,
    timings: Timings,
}

impl<C> Active<C> {
    /// A trajectory that starts from `x`, which it took since `begun` to draw.
    fn new(waiting: Waiting<C>, x: Vec<f32>, begun: Instant) -> Self {
        let Waiting { trajectory, outlet, span, submitted } = waiting;
        let timings = Timings {
            queued_seconds: (begun - submitted).as_secs_f64(),
            overhead_seconds: begun.elapsed().as_secs_f64(),
            ..Timings::default()
        };
        let plan = trajectory.plan.step(0);
        Self { trajectory, outlet, span, submitted, x, step: 0, plan, timings }
    }

    fn steps(&self) -> usize {
        self.trajectory.sampler.evaluations()
    }

    fn rows(&self) -> usize {
        self.plan.rows().len()
    }

    fn is_late(&self, now: Instant) -> bool {
        self.trajectory.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Moves x one step, given what this step's rows predict, one after another in `outputs`.
    fn take_step(&mut self, outputs: &mut [f32], guided: &mut Vec<f32>) -> Progress {
        let Trajectory { sampler, noise, initial, .. } = &mut self.trajectory;
        let progress = Progress {
            step: self.step + 1,
            steps: sampler.evaluations(),
            kind: self.plan.kind(),
            timestep: sampler.timestep(self.step),
            rows: self.plan.rows().len(),
        };
        let elements = self.x.len();
        // What a row says of the variance follows its prediction.
        let row = outputs.len() / progress.rows;
        // A single row has the coefficient 1 and is its own sum.
        let output = if progress.rows == 1 {
            outputs
        } else {
            guided.resize(row, 0.0);
            let (mut coefficients, mut rows) = ([0.0; MAX_ROWS], [&[][..]; MAX_ROWS]);
            for (i, (planned, output)) in self.plan.rows().iter().zip(outputs.chunks_exact(row)).enumerate() {
                (coefficients[i], rows[i]) = (planned.coefficient, &output[..elements]);
            }
            let (prediction, variance) = guided.split_at_mut(elements);
            combine(&coefficients[..progress.rows], &rows[..progress.rows], prediction);
            if self.plan.rescale() > 0.0 {
                rescale(prediction, rows[0], self.plan.rescale());
            }
            // Guidance says nothing of the variance: it is that of the row with all conditions, the first.
            variance.copy_from_slice(&outputs[elements..row]);
            guided
        };
        let taken = if sampler.takes_variance() { row } else { elements };
        sampler.step(self.step, &mut self.x, &mut output[..taken], noise);
        if let Some(initial) = initial {
            initial.put_back(self.step, sampler, &mut self.x, noise);
        }
        self.step += 1;
        self.plan = self.trajectory.plan.step(self.step);
        progress
    }
}

pub(crate) struct Worker<M: RowModel> {
    model: M,
    queue: Arc<Queue<M::Conditions>>,
    max_trajectories: usize,
    max_rows: usize,
    /// Trajectories between two ticks; whose turn it is stands first.
    ready: VecDeque<Active<M::Conditions>>,
    /// Trajectories of this tick's pass.
    picked: Vec<Active<M::Conditions>>,
    admitted: Vec<Waiting<M::Conditions>>,
    /// What the rows of this tick's pass predict, row after row.
    outputs: Vec<f32>,
    /// The guided output of one trajectory.
    guided: Vec<f32>,
}

impl<M: RowModel> Worker<M> {
    pub(crate) fn new(
        model: M,
        queue: Arc<Queue<M::Conditions>>,
        max_trajectories: usize,
        max_rows: usize,
    ) -> Self {
        Self {
            model,
            queue,
            max_trajectories,
            max_rows,
            ready: VecDeque::new(),
            picked: Vec::new(),
            admitted: Vec::new(),
            outputs: Vec::new(),
            guided: Vec::new(),
        }
    }

    /// Serves until the queue is closed and everything accepted has ended.
    pub(crate) fn run(mut self) {
        while self.admit() {
            self.pick();
            if !self.picked.is_empty() {
                self.tick();
            }
        }
    }

    /// Takes in waiting trajectories; false when there is nothing to do and never will be.
    fn admit(&mut self) -> bool {
        let room = self.max_trajectories - self.ready.len();
        if !self.queue.admit(room, self.ready.is_empty(), &mut self.admitted) {
            return false;
        }
        for waiting in self.admitted.drain(..) {
            let begun = Instant::now();
            let x = match catch_unwind(AssertUnwindSafe(|| begin(&waiting.trajectory))) {
                Ok(x) => x,
                Err(panic) => {
                    let failure = Failure::StepPanicked(panic_message(panic.as_ref()));
                    warn!(parent: &waiting.span, %failure, "trajectory failed");
                    self.queue.record(|stats| {
                        stats.active -= 1;
                        stats.failed += 1;
                    });
                    waiting.outlet.finish(Event::Failed(failure));
                    continue;
                }
            };
            let active = Active::new(waiting, x, begun);
            debug!(parent: &active.span, queued_seconds = active.timings.queued_seconds, "trajectory admitted");
            self.queue.record(|stats| {
                stats.queue_seconds += active.timings.queued_seconds;
                stats.overhead_seconds += active.timings.overhead_seconds;
            });
            self.ready.push_back(active);
        }
        true
    }

    /// Moves to `picked` the trajectories of the next pass, in turn, each with all rows of its step, and lets go of those
    /// nobody waits for any more.
    ///
    /// One that does not fit keeps its turn: it stands before those picked when they come back.
    fn pick(&mut self) {
        let now = Instant::now();
        let mut room = self.max_rows;
        for _ in 0..self.ready.len() {
            let Some(active) = self.ready.pop_front() else { break };
            if active.outlet.is_closed() {
                self.cancel(&active);
            } else if active.is_late(now) {
                let failure = Failure::DeadlineExceeded { step: active.step, steps: active.steps() };
                self.fail(active, failure);
            } else if active.rows() <= room {
                room -= active.rows();
                self.picked.push(active);
            } else {
                self.ready.push_back(active);
            }
        }
    }

    /// One forward pass, and one step of every trajectory in it.
    fn tick(&mut self) {
        let started = Instant::now();
        // 1. Lay out the rows.
        let elements =
            self.picked.iter().map(|active| active.rows() * active.trajectory.output_elements()).sum();
        if self.outputs.len() < elements {
            self.outputs.resize(elements, 0.0);
        }
        let mut rows = lay_out(&self.picked, &mut self.outputs);
        let count = rows.len();
        let layout_seconds = started.elapsed().as_secs_f64();

        // 2. Evaluate them. A model that panics is used again: what it does about its own state is its affair.
        let evaluated = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.model.forward(&mut rows)));
        let model_seconds = evaluated.elapsed().as_secs_f64();
        drop(rows);
        let outcome = outcome.map_err(|panic| Failure::ModelPanicked(panic_message(panic.as_ref())));
        trace!(rows = count, trajectories = self.picked.len(), model_seconds, "forward pass");
        self.queue.record(|stats| {
            stats.ticks += 1;
            stats.rows += count as u64;
            stats.model_seconds += model_seconds;
        });

        // 3. Step and report.
        let mut outcomes = outcome.map(Vec::into_iter);
        let mut outputs = mem::take(&mut self.outputs);
        let mut rest = outputs.as_mut_slice();
        let mut picked = mem::take(&mut self.picked);
        for mut active in picked.drain(..) {
            let share = active.rows() as f64 / count as f64;
            active.timings.model_seconds += model_seconds * share;
            active.timings.overhead_seconds += layout_seconds * share;
            let (mine, others) = rest.split_at_mut(active.rows() * active.trajectory.output_elements());
            rest = others;
            let mine_failed = match &mut outcomes {
                Ok(outcomes) => first_failure(outcomes, active.rows()),
                Err(failure) => Some(failure.clone()),
            };
            if let Some(failure) = mine_failed {
                self.fail(active, failure);
                continue;
            }
            let stepped = Instant::now();
            // A step that panics ends its own trajectory and no other.
            let progress = catch_unwind(AssertUnwindSafe(|| active.take_step(mine, &mut self.guided)));
            let progress = match progress {
                Ok(progress) => progress,
                Err(panic) => {
                    self.fail(active, Failure::StepPanicked(panic_message(panic.as_ref())));
                    continue;
                }
            };
            active.timings.overhead_seconds += stepped.elapsed().as_secs_f64();
            active.outlet.progress(progress);
            if active.step < active.steps() {
                self.ready.push_back(active);
            } else {
                self.finish(active);
            }
        }
        (self.outputs, self.picked) = (outputs, picked);
        self.queue.record(|stats| stats.overhead_seconds += started.elapsed().as_secs_f64() - model_seconds);
    }

    fn finish(&self, active: Active<M::Conditions>) {
        if !active.x.iter().all(|value| value.is_finite()) {
            let failure = Failure::NotFinite { steps: active.steps() };
            return self.fail(active, failure);
        }
        let Active { outlet, span, submitted, x, mut timings, .. } = active;
        timings.elapsed_seconds = submitted.elapsed().as_secs_f64();
        debug!(parent: &span, ?timings, "trajectory finished");
        self.queue.record(|stats| {
            stats.active -= 1;
            stats.finished += 1;
        });
        outlet.finish(Event::Finished(Finished { x, timings }));
    }

    fn fail(&self, active: Active<M::Conditions>, failure: Failure) {
        warn!(parent: &active.span, step = active.step, %failure, "trajectory failed");
        self.queue.record(|stats| {
            stats.active -= 1;
            stats.failed += 1;
        });
        active.outlet.finish(Event::Failed(failure));
    }

    fn cancel(&self, active: &Active<M::Conditions>) {
        debug!(parent: &active.span, step = active.step, "trajectory cancelled");
        self.queue.record(|stats| {
            stats.active -= 1;
            stats.cancelled += 1;
        });
    }
}

/// Draws `x_T`, and puts the picture under it that the trajectory starts from.
fn begin<C>(trajectory: &Trajectory<C>) -> Vec<f32> {
    let mut x = vec![0.0; trajectory.elements];
    trajectory.noise.fill_normal(Stream::InitialNoise, 0, &mut x);
    match &trajectory.initial {
        Some(initial) => initial.begin(&trajectory.sampler, &mut x),
        None => trajectory.sampler.begin(&mut x),
    }
    x
}

/// The rows of `picked`, with consecutive parts of `outputs` to write to.
fn lay_out<'a, C>(picked: &'a [Active<C>], mut outputs: &'a mut [f32]) -> Vec<Row<'a, C>> {
    let mut rows = Vec::with_capacity(picked.iter().map(Active::rows).sum());
    for active in picked {
        for planned in active.plan.rows() {
            let (out, rest) = outputs.split_at_mut(active.trajectory.output_elements());
            outputs = rest;
            rows.push(Row {
                x: &active.x,
                timestep: active.trajectory.sampler.timestep(active.step),
                condition: planned.condition,
                conditions: active.trajectory.conditions.as_ref(),
                out,
            });
        }
    }
    rows
}

/// Why the next `rows` rows are of no use, if one of them is not.
fn first_failure(outcomes: &mut std::vec::IntoIter<Result<(), ModelError>>, rows: usize) -> Option<Failure> {
    let missing = || Err(ModelError::new("it said nothing of a row"));
    let mine: Vec<_> = (0..rows).map(|_| outcomes.next().unwrap_or_else(missing)).collect();
    mine.into_iter().find_map(Result::err).map(Failure::Model)
}

/// What a panic said, if it said it in words.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}
