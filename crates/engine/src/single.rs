//! A job of one row.

use tokio::sync::oneshot;

use crate::cost::Weight;
use crate::lane::RowModel;
use crate::work::{Failure, Next, Outlook, Timings, Work};

/// The output of a row, and where its time went.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed<T> {
    /// What came of it.
    pub output: T,
    /// Where the time went.
    pub timings: Timings,
}

type Reply<T> = Result<Computed<T>, Failure>;

/// One row, and who waits for its output.
pub(crate) struct Single<M: RowModel> {
    row: Option<M::Row>,
    weight: Weight,
    output: Option<M::Output>,
    reply: oneshot::Sender<Reply<M::Output>>,
}

impl<M: RowModel> Single<M> {
    pub(crate) fn new(row: M::Row) -> (Self, oneshot::Receiver<Reply<M::Output>>) {
        let (reply, receiver) = oneshot::channel();
        (Self { weight: M::weight(&row), row: Some(row), output: None, reply }, receiver)
    }
}

impl<M: RowModel> Work<M> for Single<M> {
    fn outlook(&self) -> Outlook {
        Outlook { rows: 1, later_steps: 0, later_rows: 0, steps_taken: 0, weight: self.weight }
    }

    fn rows(&mut self) -> Vec<M::Row> {
        self.row.take().into_iter().collect()
    }

    fn advance(&mut self, mut outputs: Vec<M::Output>) -> Result<Next, Failure> {
        self.output = outputs.pop();
        Ok(Next::Done)
    }

    fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    fn end(self: Box<Self>, outcome: Result<Timings, Failure>) {
        let Self { output, reply, .. } = *self;
        let computed = |timings| output.map(|output| Computed { output, timings });
        let outcome = outcome.and_then(|timings| computed(timings).ok_or(Failure::LaneGone));
        // Whoever left in the meantime needs no answer.
        let _ = reply.send(outcome);
    }
}
