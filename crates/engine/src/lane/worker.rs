//! A thread of a lane: wait, choose, compute; one row after another.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use tracing::trace;

use super::RowModel;
use super::queue::{Queue, Step, Task, advance};
use crate::cores::Cores;
use crate::metrics;
use crate::work::{Failure, Work};

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
    while queue.wait() {
        let asked = Instant::now();
        let _taken = cores.take(cores_of_a_row);
        // What comes before the first row of a job counts for that row.
        while let Some(task) = queue.choose(seat) {
            match task {
                Task::Prepare { id, mut work, span } => {
                    let _entered = span.entered();
                    let begun = Instant::now();
                    let rows = guard(|| Ok(Some(work.rows())), Failure::StepPanicked);
                    queue.prepared(id, work, rows, begun.elapsed());
                }
                Task::Row { id, index, row, span } => {
                    let _entered = span.entered();
                    let begun = Instant::now();
                    let outcome = guard(|| Ok(model.run(row)?), Failure::ModelPanicked);
                    let (computing, with_wait) = (begun.elapsed(), asked.elapsed());
                    trace!(row = index, ?computing, "row computed");
                    metrics::record_row(&queue.name, computing);
                    if let Some(step) = queue.done(seat, (id, index), outcome, computing, with_wait) {
                        end_step(queue, id, step);
                    }
                    break;
                }
            }
        }
    }
    std::mem::forget(abandon);
}

fn end_step<M: RowModel>(queue: &Queue<M>, id: u64, step: Step<M>) {
    let begun = Instant::now();
    let Step { mut work, outputs } = step;
    let rows = guard(|| advance(work.as_mut() as &mut dyn Work<M>, outputs), Failure::StepPanicked);
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
