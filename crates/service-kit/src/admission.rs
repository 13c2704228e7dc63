//! Bounds on the work in flight and on the memory of its requests, with an answer when they are reached.
//!
//! A call takes its place when its headers arrive, before anything of its message is read, and counts the bytes of the message
//! as they come in.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Status};

use crate::Refusal;

/// Lets a bounded number of calls in and refuses the rest at once.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    limit: usize,
    bytes: Arc<Semaphore>,
    max_bytes: usize,
}

impl Admission {
    /// Lets at most `limit` calls in at a time, with messages of at most `max_bytes` together.
    pub(crate) fn new(limit: usize, max_bytes: usize) -> Self {
        let max_bytes = max_bytes.min(Semaphore::MAX_PERMITS);
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(limit)),
            limit,
            bytes: Arc::new(Semaphore::new(max_bytes)),
            max_bytes,
        }
    }

    /// Tells how many places are taken, as long as there is an admission.
    pub(crate) fn places_taken(&self) -> impl Fn() -> Option<usize> + Send + Sync + 'static {
        let (places, limit) = (Arc::downgrade(&self.places), self.limit);
        move || places.upgrade().map(|places| limit - places.available_permits())
    }

    /// Takes a place until the permit and all its clones are dropped.
    pub(crate) fn admit(&self) -> Result<Permit, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| {
            Refusal::overloaded(format!("all {} places for requests in flight are taken", self.limit))
        })?;
        let place = Arc::new(Mutex::new(place));
        Ok(Permit(Some(Arc::new(Held { place, bytes: Mutex::new(None), of: self.clone() }))))
    }
}

/// A place among those in flight, or several; shared by a call and its answer.
pub(crate) type Places = Arc<Mutex<OwnedSemaphorePermit>>;

/// A call's place among those in flight, and the memory of its message. Work that goes on when its caller is gone keeps a clone,
/// so that it still counts.
#[derive(Debug, Clone, Default)]
pub struct Permit(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    place: Places,
    bytes: Mutex<Option<OwnedSemaphorePermit>>,
    of: Admission,
}

impl Permit {
    /// The permit of an incoming request.
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// The same place without the memory of the message, for work that outlives that.
    #[must_use]
    pub fn without_message(&self) -> Self {
        let held = self.0.as_ref().map(|held| Held {
            place: Arc::clone(&held.place),
            bytes: Mutex::default(),
            of: held.of.clone(),
        });
        Self(held.map(Arc::new))
    }

    /// Runs blocking work on a thread of its own. The place is held until the work ends, even if its caller has left by then; work that
    /// has not begun by then never does.
    ///
    /// # Errors
    /// Those of the work; `INTERNAL` if it panics.
    pub async fn run_blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        // Dropped with this future, which is when the caller leaves.
        let caller = Arc::new(());
        let waits = Arc::downgrade(&caller);
        let run = tokio::task::spawn_blocking(move || {
            let _permit = self;
            if waits.strong_count() == 0 {
                return Err(Status::cancelled("the caller is gone"));
            }
            work()
        });
        let result = run.await.map_err(|_| Refusal::internal("the service panicked; its log says more"))?;
        drop(caller);
        result
    }

    /// Holds `count` places until the call and its answer end, for a call that counts as so many.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if not so many are free; the call keeps what it has.
    pub fn hold(&self, count: usize) -> Result<(), Refusal> {
        let Some(held) = &self.0 else { return Ok(()) };
        let mut place = held.place.lock().unwrap_or_else(PoisonError::into_inner);
        let Admission { places, limit, .. } = &held.of;
        let more = count.saturating_sub(place.num_permits());
        let taken = u32::try_from(more).ok().and_then(|more| {
            let places = Arc::clone(places);
            places.try_acquire_many_owned(more).ok()
        });
        let taken = taken.ok_or_else(|| {
            let free = places.available_permits() + place.num_permits();
            let why = format!(
                "the request needs {count} of the {limit} places for requests in flight; free: {free}"
            );
            Refusal::overloaded(why)
        })?;
        place.merge(taken);
        Ok(())
    }

    /// Counts `count` more bytes until what is given is dropped.
    pub(crate) fn take_bytes(&self, count: usize) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let Some(held) = &self.0 else { return Ok(None) };
        let more = u32::try_from(count).ok().and_then(|count| {
            let bytes = Arc::clone(&held.of.bytes);
            bytes.try_acquire_many_owned(count).ok()
        });
        more.map(Some).ok_or_else(|| {
            let mib = held.of.max_bytes >> 20;
            Refusal::overloaded(format!("the requests in flight take all {mib} MiB that there are for them"))
        })
    }

    /// Counts `count` more bytes of the message.
    pub(crate) fn add_bytes(&self, count: usize) -> Result<(), Refusal> {
        let (Some(held), Some(more)) = (&self.0, self.take_bytes(count)?) else { return Ok(()) };
        let mut bytes = held.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        match bytes.as_mut() {
            Some(bytes) => bytes.merge(more),
            None => *bytes = Some(more),
        }
        Ok(())
    }

    /// The place alone, for an answer that outlives the message.
    pub(crate) fn place(&self) -> Option<Places> {
        self.0.as_ref().map(|held| Arc::clone(&held.place))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tonic::Code;

    use super::*;

    #[test]
    fn refuses_over_the_limit_and_lets_in_again() {
        let admission = Admission::new(1, 0);
        let first = admission.admit().unwrap();
        let refused: Status = admission.admit().unwrap_err().into();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let kept = first.clone();
        drop(first);
        assert!(admission.admit().is_err(), "a clone still counts");
        drop(kept);
        assert!(admission.admit().is_ok());
    }

    #[test]
    fn a_call_may_hold_several_places_until_its_answer_ends() {
        let admission = Admission::new(3, 0);
        let (permit, other) = (admission.admit().unwrap(), admission.admit().unwrap());
        let refused: Status = permit.hold(3).unwrap_err().into();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("3 of the 3 places") && refused.message().ends_with("free: 2"));
        permit.hold(2).unwrap();
        permit.hold(2).unwrap();
        assert_eq!(admission.places_taken()(), Some(3));
        assert!(admission.admit().is_err(), "two and one are three");
        drop(other);
        permit.hold(3).unwrap();
        let of_answer = permit.place();
        drop(permit);
        assert!(admission.admit().is_err());
        drop(of_answer);
        admission.admit().unwrap().hold(3).unwrap();
    }

    #[tokio::test]
    async fn blocking_work_holds_its_place_until_it_ends() {
        let admission = Admission::new(1, 0);
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, ends) = mpsc::channel::<()>();
        let work = admission.admit().unwrap().run_blocking(move || {
            begun.send(()).unwrap();
            ends.recv().unwrap_err();
            Ok(())
        });
        let caller = tokio::spawn(work);
        has_begun.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert!(admission.admit().is_err(), "its caller has left and it still runs");
        drop(end);
        while admission.admit().is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn blocking_work_that_panics_is_a_defect() {
        let panics = Permit::default().run_blocking(|| -> Result<(), Status> { panic!("a bug") });
        assert_eq!(panics.await.unwrap_err().code(), Code::Internal);
    }

    #[test]
    fn messages_share_their_memory() {
        let admission = Admission::new(9, 100);
        let (one, other) = (admission.admit().unwrap(), admission.admit().unwrap());
        one.add_bytes(40).unwrap();
        one.add_bytes(30).unwrap();
        let refused: Status = other.add_bytes(31).unwrap_err().into();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        other.add_bytes(30).unwrap();
        let place = one.place();
        drop(one);
        other.add_bytes(70).unwrap();
        drop(place);
    }
}
