//! The sending end of a trajectory's events.

use tokio::sync::mpsc;

use super::{Event, Progress};
use crate::work::Failure;

/// Sends a trajectory's events without ever waiting: progress when there is room, and a last event whose place in the
/// channel is reserved before the first.
#[derive(Debug)]
pub(crate) struct Outlet {
    progress: mpsc::Sender<Event>,
    last: Option<mpsc::OwnedPermit<Event>>,
}

impl Outlet {
    /// An outlet whose receiver may lag behind by `progress_events` before progress is left out.
    pub(crate) fn new(progress_events: usize) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(progress_events + 1);
        let last = sender.clone().try_reserve_owned().ok();
        (Self { progress: sender, last }, receiver)
    }

    /// Whether nobody listens any more: the trajectory is cancelled.
    pub(crate) fn is_closed(&self) -> bool {
        self.progress.is_closed()
    }

    pub(crate) fn progress(&self, progress: Progress) {
        // A full channel leaves this one out; a closed one is noticed before the next row.
        let _ = self.progress.try_send(Event::Progress(progress));
    }

    pub(crate) fn finish(mut self, event: Event) {
        self.send_last(event);
    }

    fn send_last(&mut self, event: Event) {
        if let Some(place) = self.last.take() {
            place.send(event);
        }
    }
}

impl Drop for Outlet {
    /// Whoever dropped it without a last event did so while unwinding.
    fn drop(&mut self) {
        self.send_last(Event::Failed(Failure::LaneGone));
    }
}

#[cfg(test)]
mod tests {
    use reverie_diffusion::guidance::StepKind;

    use super::*;

    #[test]
    fn progress_gives_way_and_the_last_event_does_not() {
        let progress = |step| Progress { step, steps: 9, kind: StepKind::Joint, timestep: 0.0, rows: 2 };
        let (outlet, mut events) = Outlet::new(2);
        (1..=9).for_each(|step| outlet.progress(progress(step)));
        outlet.finish(Event::Failed(Failure::NotFinite { steps: 9 }));
        assert_eq!(events.blocking_recv(), Some(Event::Progress(progress(1))));
        assert_eq!(events.blocking_recv(), Some(Event::Progress(progress(2))));
        assert_eq!(events.blocking_recv(), Some(Event::Failed(Failure::NotFinite { steps: 9 })));
        assert_eq!(events.blocking_recv(), None);
    }

    #[test]
    fn a_worker_that_dies_says_so() {
        let (outlet, mut events) = Outlet::new(1);
        drop(outlet);
        assert_eq!(events.blocking_recv(), Some(Event::Failed(Failure::LaneGone)));
    }
}
