//! A thread of a lane: wait, choose, compute; one forward pass after another.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use tracing::trace;

use super::RowModel;
use super::jobs::{Pass, PassTime, Preparation, Step, advance};
use super::queue::{Queue, Turn};
use crate::RowError;
use crate::cores::Cores;
use crate::cost::Weight;
use crate::metrics;
use crate::work::Failure;

/// Serves until the queue is closed and everything admitted has ended.
pub(super) fn serve<M: RowModel>(
    queue: &Queue<M>,
    seat: usize,
    mut model: M,
    cores: &Cores,
    cores_of_a_row: usize,
) {
    // A thread that unwinds leaves jobs behind that nobody would end.
    let abandon = Abandon(queue);
    // A pass on a GPU takes no cores of the budget.
    if cores_of_a_row > 0 {
        reverie_diffusion::use_threads(cores_of_a_row);
    }
    loop {
        match queue.wait(seat) {
            Turn::Serve => pass(queue, seat, &mut model, cores, cores_of_a_row),
            Turn::Calibrate => calibrate(queue, seat, &mut model, cores, cores_of_a_row),
            Turn::End => break,
        }
    }
    std::mem::forget(abandon);
}

/// Computes the rows whose turn it is, if there still are any once the cores are free.
fn pass<M: RowModel>(queue: &Queue<M>, seat: usize, model: &mut M, cores: &Cores, cores_of_a_row: usize) {
    let asked = Instant::now();
    let _taken = cores.take(cores_of_a_row);
    let waiting = asked.elapsed();
    let mut pass = Pass::new();
    while let Some(Preparation { id, mut work, span }) = queue.fill(seat, &mut pass) {
        let _entered = span.entered();
        let begun = Instant::now();
        let rows = guard(|| Ok(Some(work.rows())), Failure::StepPanicked);
        queue.prepared(id, work, rows, begun.elapsed());
    }
    if pass.rows.is_empty() {
        return;
    }
    let begun = Instant::now();
    let outcomes = compute(model, &mut pass.rows);
    let time = PassTime { computing: begun.elapsed(), waiting };
    for claim in &pass.claims {
        let rows = pass.rows.len();
        trace!(parent: &claim.span, row = claim.index, rows, computing = ?time.computing, "row computed");
        metrics::record_row(&queue.name, time.computing);
    }
    for step in queue.done(seat, &pass, outcomes, time) {
        end_step(queue, step);
    }
}

/// Computes a row that nobody asked for, to see what it takes.
fn calibrate<M: RowModel>(
    queue: &Queue<M>,
    seat: usize,
    model: &mut M,
    cores: &Cores,
    cores_of_a_row: usize,
) {
    let _taken = cores.take(cores_of_a_row);
    let next = queue.next_calibration(seat);
    let row = guard(|| Ok(model.typical_rows().into_iter().nth(next)), Failure::ModelPanicked);
    let weight = row.as_ref().ok().and_then(Option::as_ref).map_or(Weight::from(1.0), M::weight);
    let begun = queue.begin_calibration(seat);
    let outcome = row.and_then(|row| match row {
        Some(row) => run(model, &mut [row]).map(|_| begun.elapsed()),
        None => Err(RowError::new("it has no row to calibrate with").into()),
    });
    queue.calibrated(seat, weight, outcome);
}

/// Computes the rows of a pass. If the pass fails, each row has a pass of its own, so that only the wrong ones fail: as a pass is padded,
/// the others are computed as they would have been.
fn compute<M: RowModel>(model: &mut M, rows: &mut [M::Row]) -> Vec<Result<M::Output, Failure>> {
    match run(model, rows) {
        Ok(outputs) => outputs.into_iter().map(Ok).collect(),
        Err(failure) if rows.len() == 1 => vec![Err(failure)],
        Err(_) => rows.iter_mut().flat_map(|row| compute(model, std::slice::from_mut(row))).collect(),
    }
}

fn run<M: RowModel>(model: &mut M, rows: &mut [M::Row]) -> Result<Vec<M::Output>, Failure> {
    let outputs = guard(|| Ok(model.run(rows)?), Failure::ModelPanicked)?;
    if outputs.len() == rows.len() {
        return Ok(outputs);
    }
    Err(RowError::new(format!("it gave {} outputs for {} rows", outputs.len(), rows.len())).into())
}

fn end_step<M: RowModel>(queue: &Queue<M>, step: Step<M>) {
    let begun = Instant::now();
    let Step { id, span, mut work, outputs } = step;
    let _entered = span.entered();
    let rows = guard(|| advance(work.as_mut(), outputs), Failure::StepPanicked);
    queue.prepared(id, work, rows, begun.elapsed());
}

/// Runs what may panic. What it changes is not used again if it does, but for the model, which a run leaves as it was.
fn guard<T>(
    work: impl FnOnce() -> Result<T, Failure>,
    panicked: impl FnOnce(String) -> Failure,
) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(message(panic.as_ref()))))
}

/// What a panic said, if it said it in words.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}

/// Abandons the queue of a thread that dies.
struct Abandon<'a, M: RowModel>(&'a Queue<M>);

impl<M: RowModel> Drop for Abandon<'_, M> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
