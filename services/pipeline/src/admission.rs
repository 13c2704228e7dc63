//! Which requests are begun: those that can be done by their deadline, over all stages, without making others late.
//!
//! Each stage predicts what a request will take of it ([`Prediction`]). Here these are added up, with what the requests before it still
//! need, by what computes them: stages of one process share its cores. The policy is that of the lanes
//! ([`reverie_engine::policy`]), with requests for jobs and the cores for sessions: deadlines, then equal shares of callers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use reverie_engine::SubmitError;
use reverie_engine::policy::{Caller, Class, Job, Policy, PolicySettings, Seconds};
use reverie_proto::diffusion::v1::Prediction;
use reverie_service_kit::Context;
use reverie_stage::lanes;
use tonic::Status;

use crate::position::Place;

/// What an image takes beside what its lanes compute: texts, neighbours, image files, messages.
const BESIDE: f64 = 1.1;
/// Seconds for which what is known of a resource is kept when nothing uses it.
const FORGET: Seconds = 60.0;
/// What makes one deadline earlier than another, seconds.
const EARLIER: Seconds = 1e-6;
/// Whose the work is that other pipelines have given the stages.
const OTHERS: u64 = u64::MAX;

/// What an image needs of a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) place: Place,
    pub(crate) prediction: Prediction,
}

/// The requests that were admitted and have not ended.
pub(crate) struct Admission {
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    requests: BTreeMap<u64, Vec<Part>>,
    resources: BTreeMap<u64, Resource>,
}

/// What is left of a need.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Which image of the request it is for, from 0.
    image: usize,
    need: Need,
    /// The share that is not done, 0 to 1.
    left: f64,
}

/// What computes: the cores of a process, or a model on a GPU.
struct Resource {
    policy: Policy,
    units: usize,
    /// One for each request that needs it.
    jobs: Vec<Job>,
    used: Seconds,
}

/// What an admitted request has booked, until this is dropped.
pub(crate) struct Booking {
    admission: Arc<Admission>,
    id: u64,
}

impl Default for Admission {
    fn default() -> Self {
        Self { epoch: Instant::now(), state: Mutex::default() }
    }
}

impl Admission {
    /// Books what a request of so many `images` needs, `needs` for each of them, or refuses it: with `RESOURCE_EXHAUSTED` if it has to wait, with `DEADLINE_EXCEEDED` if waiting does
    /// not help.
    pub(crate) fn admit(
        self: &Arc<Self>,
        context: Context,
        needs: &[Need],
        images: usize,
    ) -> Result<Booking, Status> {
        let now = self.seconds(Instant::now());
        let call = lanes::call(context);
        let mut state = self.lock();
        let State { next_id, requests, resources } = &mut *state;
        resources.retain(|_, resource| !resource.jobs.is_empty() || now - resource.used < FORGET);
        let of_image = |image| needs.iter().map(move |need| Part { image, need: *need, left: 1.0 });
        let parts: Vec<Part> = (0..images).flat_map(of_image).collect();
        let mut job = Job {
            id: *next_id,
            caller: call.caller,
            class: call.class,
            arrived: now,
            deadline: call.deadline.map(|deadline| self.seconds(deadline)),
            work_left: 0.0,
            alone_left: 0.0,
            alone_at_best: 0.0,
            row: 0.0,
            is_ready: true,
        };
        let mut booked = Vec::new();
        for Need { prediction, .. } in needs {
            if booked.iter().any(|(id, _)| *id == prediction.resource) {
                continue;
            }
            let units = (prediction.units as usize).max(1);
            let resource = resources.entry(prediction.resource).or_insert_with(|| Resource::new(units));
            resource.used = now;
            let backlog =
                needs.iter().map(|need| need.prediction).filter(|of| of.resource == prediction.resource);
            let backlog = backlog.map(|prediction| prediction.backlog_unit_seconds).sum();
            update(&mut job, prediction.resource, &parts);
            resource
                .admit(&job, backlog, now)
                .map_err(|refused| lanes::submit_status(&SubmitError::Policy(refused), context))?;
            booked.push((prediction.resource, job));
        }
        for (id, job) in booked {
            resources.entry(id).and_modify(|resource| resource.jobs.push(job));
        }
        requests.insert(*next_id, parts);
        *next_id += 1;
        Ok(Booking { admission: Arc::clone(self), id: job.id })
    }

    fn seconds(&self, at: Instant) -> Seconds {
        at.saturating_duration_since(self.epoch).as_secs_f64()
    }

    /// Nothing that holds the lock leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resource {
    fn new(units: usize) -> Self {
        Self { policy: Policy::new(PolicySettings::new(units)), units, jobs: Vec::new(), used: 0.0 }
    }

    /// Whether `newcomer` may use it, if its stages have a `backlog`, of which more may be other pipelines' than what is booked here.
    fn admit(
        &mut self,
        newcomer: &Job,
        backlog: Seconds,
        now: Seconds,
    ) -> Result<(), reverie_engine::policy::Refused> {
        let own: Seconds = self.jobs.iter().map(|job| job.work_left).sum();
        let others = backlog - own;
        if others <= 0.0 {
            return self.policy.admit(&self.jobs, newcomer, now);
        }
        // It goes before whatever comes now. What of it is done after the newcomer's deadline makes no difference.
        let units = self.units as f64;
        let until = newcomer.deadline.map_or(f64::INFINITY, |deadline| deadline - EARLIER);
        let others = others.min(units * (until - now));
        let before = Job {
            id: OTHERS,
            caller: Caller(OTHERS),
            class: Class::Interactive,
            deadline: Some((now + others / units).min(until)),
            work_left: others,
            alone_left: 0.0,
            ..*newcomer
        };
        let jobs: Vec<Job> = self.jobs.iter().copied().chain([before]).collect();
        self.policy.admit(&jobs, newcomer, now)
    }
}

/// Brings up to date what the request of `parts` needs of a resource.
fn update(job: &mut Job, resource: u64, parts: &[Part]) {
    let of_resource = parts.iter().filter(|part| part.need.prediction.resource == resource);
    job.work_left =
        BESIDE * of_resource.map(|part| part.left * part.need.prediction.unit_seconds).sum::<Seconds>();
    job.alone_left = BESIDE * alone(parts);
    job.alone_at_best = job.alone_left;
}

/// How long `parts` take at least if nothing else ran: the stages of an image come one after another, and no resource does more at a
/// time than it has units.
fn alone(parts: &[Part]) -> Seconds {
    let (mut images, mut resources) = (BTreeMap::new(), BTreeMap::new());
    for Part { image, need, left } in parts {
        let Prediction { seconds, resource, units, unit_seconds, .. } = need.prediction;
        *images.entry(*image).or_insert(0.0) += left * seconds;
        *resources.entry(resource).or_insert(0.0) += left * unit_seconds / f64::from(units.max(1));
    }
    images.into_values().chain(resources.into_values()).fold(0.0, Seconds::max)
}

impl Booking {
    /// An image is at `place`, of which `share` is done: what comes before it is over.
    pub(crate) fn reach(&self, image: usize, place: Place, share: f64) {
        let mut state = self.admission.lock();
        let State { requests, resources, .. } = &mut *state;
        let Some(parts) = requests.get_mut(&self.id) else { return };
        let mut of_image: Vec<_> = parts.iter_mut().filter(|part| part.image == image).collect();
        let Some(at) = of_image.iter().position(|part| part.need.place == place) else { return };
        of_image[..at].iter_mut().for_each(|part| part.left = 0.0);
        of_image[at].left = 1.0 - share;
        for (id, resource) in resources {
            if let Some(job) = resource.jobs.iter_mut().find(|job| job.id == self.id) {
                update(job, *id, parts);
            }
        }
    }

    /// An image has ended, drawn or not: it needs nothing any more.
    pub(crate) fn end(&self, image: usize) {
        let mut state = self.admission.lock();
        let State { requests, resources, .. } = &mut *state;
        let Some(parts) = requests.get_mut(&self.id) else { return };
        parts.retain(|part| part.image != image);
        for (id, resource) in resources {
            if let Some(job) = resource.jobs.iter_mut().find(|job| job.id == self.id) {
                update(job, *id, parts);
            }
        }
    }

    /// Predicted seconds of an image's stages after `place`, if nothing else ran.
    pub(crate) fn after(&self, image: usize, place: Place) -> Seconds {
        let state = self.admission.lock();
        let parts = state.requests.get(&self.id).map(Vec::as_slice).unwrap_or_default();
        let of_image = parts.iter().filter(|part| part.image == image);
        let after = of_image.skip_while(|part| part.need.place != place).skip(1);
        BESIDE * after.map(|part| part.need.prediction.seconds).sum::<Seconds>()
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.requests.remove(&self.id);
        for resource in state.resources.values_mut() {
            resource.jobs.retain(|job| job.id != self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reverie_proto::generation::v1::Stage;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    /// One second of two cores in the base model, and a second of one core in a level of the same process.
    fn needs(backlog: f64) -> Vec<Need> {
        let prediction = Prediction {
            seconds: 1.0,
            resource: 7,
            units: 2,
            unit_seconds: 2.0,
            backlog_unit_seconds: backlog,
        };
        vec![
            Need { place: Stage::Base.into(), prediction },
            Need { place: Place::level(0), prediction: Prediction { unit_seconds: 1.0, ..prediction } },
        ]
    }

    fn within(seconds: u64) -> Context {
        Context::with_timeout(Duration::from_secs(seconds))
    }

    #[test]
    fn what_cannot_be_done_in_time_is_refused_with_what_it_takes() {
        let admission = Arc::<Admission>::default();
        let refused = admission.admit(within(1), &needs(0.0), 1).err().unwrap();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert!(refused.message().contains("it takes 2.20 s alone"), "{refused}");
        assert!(admission.admit(within(3), &needs(0.0), 1).is_ok());
        // Stages that predict nothing are not waited for.
        assert!(admission.admit(within(1), &[], 1).is_ok());
    }

    #[test]
    fn a_request_asks_for_the_work_of_all_its_images() {
        let admission = Arc::<Admission>::default();
        // Of 3.3 s of two cores each: one image has to wait for its own stages, several for the cores.
        let refused = admission.admit(within(10), &needs(0.0), 8).err().unwrap();
        assert_eq!(refused.code(), Code::DeadlineExceeded, "waiting does not help");
        assert!(refused.message().contains("it takes 13.20 s alone"), "{refused}");
        let booked = admission.admit(within(10), &needs(0.0), 4).ok().unwrap();
        let busy = admission.admit(within(10), &needs(0.0), 3).err().unwrap();
        assert_eq!(busy.code(), Code::ResourceExhausted);
        // Two are done, the third has a level left.
        booked.end(0);
        booked.end(1);
        booked.reach(2, Place::level(0), 0.0);
        assert!((booked.after(3, Stage::Base.into()) - 1.1).abs() < 1e-9);
        assert!(booked.after(0, Stage::Base.into()) < 1e-9);
        assert!(admission.admit(within(10), &needs(0.0), 3).is_ok());
    }

    #[test]
    fn what_would_be_late_behind_others_is_told_when_to_come_again() {
        let admission = Arc::<Admission>::default();
        let mut booked = Vec::new();
        let refused = loop {
            match admission.admit(within(10), &needs(0.0), 1) {
                Ok(booking) => booked.push(booking),
                Err(refused) => break refused,
            }
        };
        // Two cores do twenty seconds of work in ten, and a request takes 3.3.
        assert!((5..=6).contains(&booked.len()), "{}", booked.len());
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() >= Duration::from_secs(1));
        // What is done makes room, and so does what ends.
        for booking in &booked {
            booking.reach(0, Place::level(0), 0.5);
        }
        booked.push(admission.admit(within(10), &needs(0.0), 1).ok().unwrap());
        booked.clear();
        assert!(admission.lock().requests.is_empty());
        assert!(admission.lock().resources.values().all(|resource| resource.jobs.is_empty()));
    }

    #[test]
    fn work_of_other_pipelines_counts_and_own_work_counts_once() {
        let admission = Arc::<Admission>::default();
        let refused = admission.admit(within(10), &needs(20.0), 1).err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let _booked: Vec<_> =
            (0..4).map(|_| admission.admit(within(10), &needs(0.0), 1).ok().unwrap()).collect();
        // Of 6 s in each of two lanes, all are those of the four.
        assert!(admission.admit(within(10), &needs(6.0), 1).is_ok());
    }

    #[test]
    fn a_flood_leaves_room_for_a_modest_caller() {
        let admission = Arc::<Admission>::default();
        let named = |name: &str| within(10).asked_by(name.as_bytes());
        // It has asked before, as a caller that comes now and then has.
        drop(admission.admit(named("modest"), &needs(0.0), 1));
        let mut flood = Vec::new();
        while let Ok(booking) = admission.admit(named("flood"), &needs(0.0), 1) {
            flood.push(booking);
        }
        let modest = admission.admit(named("modest"), &needs(0.0), 1);
        assert!(modest.is_ok(), "{:?}", modest.err());
    }
}
