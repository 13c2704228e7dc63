//! A bound on the work in flight, with an answer when it is reached.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::Refusal;

/// Lets a bounded number of requests in and refuses the rest at once.
#[derive(Debug, Clone)]
pub struct Admission {
    slots: Arc<Semaphore>,
    limit: usize,
}

impl Admission {
    /// Lets at most `limit` requests in at a time.
    pub fn new(limit: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Takes a place until the permit is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with a hint when to retry if every place is taken.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            Refusal::overloaded(format!("all {} places for requests in flight are taken", self.limit)).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_over_the_limit_and_lets_in_again() {
        let admission = Admission::new(1);
        let first = admission.admit().unwrap();
        assert_eq!(admission.admit().unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop(first);
        assert!(admission.admit().is_ok());
    }
}
