//! Several sessions of one model, each on threads of its own, that share out independent work.
//!
//! On CPUs rows gain little from being batched (measured: 4.9 ms a row in a batch of 8, 5.3 ms as single rows on two
//! single-threaded sessions), and a row's last bits depend on the batch it is in. Single rows on parallel sessions
//! therefore cost a few per cent and make every picture the same in any company.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::ModelError;
use crate::execution::InferenceSettings;
use crate::model::Model;
use crate::package::Package;

/// Why a job came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError<E> {
    /// It failed.
    #[error("{0}")]
    Failed(E),
    /// It panicked.
    #[error("it panicked: {0}")]
    Panicked(String),
}

/// What came of a job.
pub type Outcome<E> = Result<(), JobError<E>>;

/// Sessions of one model.
#[derive(Debug)]
pub struct SessionPool {
    models: Vec<Model>,
}

impl SessionPool {
    /// Opens as many sessions as the settings say.
    pub fn load(package: &Package, settings: &InferenceSettings) -> Result<Self, ModelError> {
        let settings = settings.fitting(package);
        let models = (0..settings.session_count())
            .map(|_| Model::load(package, &settings))
            .collect::<Result<_, _>>()?;
        Ok(Self { models })
    }

    /// Does `work` on every job, as many at a time as there are sessions, and gives what came of each, in the order of the jobs.
    /// One that fails or panics takes no other with it.
    pub fn for_each<J, E, F>(&mut self, jobs: &mut [J], work: F) -> Vec<Outcome<E>>
    where
        J: Send,
        E: Send,
        F: Fn(&mut Model, &mut J) -> Result<(), E> + Sync,
    {
        share_out(&mut self.models, jobs, work)
    }
}

/// See [`SessionPool::for_each`].
fn share_out<M, J, E, F>(models: &mut [M], jobs: &mut [J], work: F) -> Vec<Outcome<E>>
where
    M: Send,
    J: Send,
    E: Send,
    F: Fn(&mut M, &mut J) -> Result<(), E> + Sync,
{
    let attempt = |model: &mut M, job: &mut J| {
        // A run that unwinds leaves its session as it was.
        match catch_unwind(AssertUnwindSafe(|| work(model, job))) {
            Ok(outcome) => outcome.map_err(JobError::Failed),
            Err(panic) => Err(JobError::Panicked(panic_message(panic.as_ref()))),
        }
    };
    let workers = models.len().min(jobs.len());
    if workers <= 1 {
        let Some(model) = models.first_mut() else { return Vec::new() };
        return jobs.iter_mut().map(|job| attempt(model, job)).collect();
    }
    let jobs: Vec<Mutex<(&mut J, Outcome<E>)>> =
        jobs.iter_mut().map(|job| Mutex::new((job, Ok(())))).collect();
    let next = AtomicUsize::new(0);
    let drain = |model: &mut M| {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (job, outcome) = &mut *job.lock().unwrap_or_else(PoisonError::into_inner);
            *outcome = attempt(model, job);
        }
    };
    thread::scope(|scope| {
        let (mine, others) = models[..workers].split_at_mut(1);
        for model in others {
            scope.spawn(|| drain(model));
        }
        mine.iter_mut().for_each(&drain);
    });
    jobs.into_iter().map(|job| job.into_inner().unwrap_or_else(PoisonError::into_inner).1).collect()
}

/// What a panic said, if it said it in words.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_fails_or_panics_takes_no_other_with_it() {
        for sessions in [1, 2, 5] {
            let mut jobs: Vec<(u32, bool)> = (0..9).map(|number| (number, false)).collect();
            let outcomes =
                share_out(&mut vec![(); sessions], &mut jobs, |(), (number, done)| match *number {
                    3 => Err("three"),
                    5 => panic!("five"),
                    _ => {
                        *done = true;
                        Ok(())
                    }
                });
            for ((number, done), outcome) in jobs.into_iter().zip(outcomes) {
                let expected = match number {
                    3 => Err(JobError::Failed("three")),
                    5 => Err(JobError::Panicked("five".to_owned())),
                    _ => Ok(()),
                };
                assert_eq!((done, outcome.clone()), (expected.is_ok(), expected), "{number}, {sessions}");
            }
        }
    }
}
