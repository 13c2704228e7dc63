//! Which requests are begun: those that can be done by their deadline, over all stages, without making others late.
//!
//! Each stage that draws predicts what a request will take of it ([`Prediction`]); what comes before them is measured. Here these are added up, with what the requests before it still
//! need, by what computes them: stages of one process share its cores. The policy is that of the lanes
//! ([`reverie_engine::policy`]), with requests for jobs and the cores for sessions: deadlines, then equal shares of callers.

mod booking;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use reverie_engine::policy::{Caller, Class, Job, Policy, PolicySettings, Refused, Seconds};
use reverie_engine::{Call, SubmitError};
use reverie_proto::diffusion::v1::Prediction;
use reverie_service_kit::Context;
use reverie_stage::lanes;
use tonic::Status;

pub(crate) use self::booking::Booking;
use crate::position::Place;

/// What an image takes beside what is predicted: image files, messages.
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
    /// Whether it is done once for all images of a request.
    pub(crate) is_shared: bool,
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

impl Default for Admission {
    fn default() -> Self {
        Self { epoch: Instant::now(), state: Mutex::default() }
    }
}

impl Admission {
    /// Books what a request of so many `images` needs, `needs` for each of them or, if there is no room for all, fewer of the stages but
    /// at least the first `least`; or refuses it: with `RESOURCE_EXHAUSTED` if it has to wait, with `DEADLINE_EXCEEDED` if waiting does
    /// not help.
    pub(crate) fn admit(
        self: &Arc<Self>,
        context: Context,
        needs: Vec<Need>,
        images: usize,
        least: usize,
    ) -> Result<Booking, Status> {
        let now = self.seconds(Instant::now());
        let call = lanes::call(context);
        let deadline = call.deadline.map(|deadline| self.seconds(deadline));
        let mut state = self.lock();
        state.resources.retain(|_, resource| !resource.jobs.is_empty() || now - resource.used < FORGET);
        let mut depth = needs.len();
        loop {
            // What a request asks for in vain counts as its caller's demand, once.
            let policies = if depth > least { state.policies(&needs) } else { Vec::new() };
            match state.book(call, deadline, &needs[..depth], images, now) {
                Ok(id) => return Ok(Booking { admission: Arc::clone(self), id, needs }),
                Err(_) if depth > least => {
                    depth -= 1;
                    state.restore(policies);
                }
                Err(refused) => return Err(lanes::submit_status(&SubmitError::Policy(refused), context)),
            }
        }
    }

    fn seconds(&self, at: Instant) -> Seconds {
        at.saturating_duration_since(self.epoch).as_secs_f64()
    }

    /// Nothing that holds the lock leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The policies of the resources of `needs`, as they are now.
    fn policies(&self, needs: &[Need]) -> Vec<(u64, Policy)> {
        let ids = needs.iter().map(|need| need.prediction.resource);
        ids.filter_map(|id| Some((id, self.resources.get(&id)?.policy.clone()))).collect()
    }

    fn restore(&mut self, policies: Vec<(u64, Policy)>) {
        for (id, policy) in policies {
            self.resources.entry(id).and_modify(|resource| resource.policy = policy);
        }
    }

    /// Books `needs` for each of so many `images`, or nothing.
    fn book(
        &mut self,
        call: Call,
        deadline: Option<Seconds>,
        needs: &[Need],
        images: usize,
        now: Seconds,
    ) -> Result<u64, Refused> {
        let Self { next_id, requests, resources } = self;
        let of_image = |image| {
            let of_it = needs.iter().filter(move |need| image == 0 || !need.is_shared);
            of_it.map(move |need| Part { image, need: *need, left: 1.0 })
        };
        let parts: Vec<Part> = (0..images).flat_map(of_image).collect();
        let mut job = job(*next_id, call, deadline, now);
        let mut booked = Vec::new();
        for Need { prediction, .. } in needs {
            if booked.iter().any(|(id, _)| *id == prediction.resource) {
                continue;
            }
            let units = (prediction.units as usize).max(1);
            let resource = resources.entry(prediction.resource).or_insert_with(|| Resource::new(units));
            resource.used = now;
            let others =
                needs.iter().map(|need| need.prediction).filter(|of| of.resource == prediction.resource);
            let others = others.map(|prediction| prediction.others_unit_seconds).sum();
            update(&mut job, prediction.resource, &parts);
            resource.admit(&job, others, now)?;
            booked.push((prediction.resource, job));
        }
        for (id, job) in booked {
            resources.entry(id).and_modify(|resource| resource.jobs.push(job));
        }
        requests.insert(*next_id, parts);
        *next_id += 1;
        Ok(job.id)
    }

    /// Changes what is left of a request's needs with `change`, and brings up to date what it needs of each resource.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Vec<Part>)) {
        let Some(parts) = self.requests.get_mut(&id) else { return };
        change(parts);
        for (resource_id, resource) in &mut self.resources {
            if let Some(job) = resource.jobs.iter_mut().find(|job| job.id == id) {
                update(job, *resource_id, parts);
            }
        }
    }
}

impl Resource {
    fn new(units: usize) -> Self {
        Self { policy: Policy::new(PolicySettings::new(units)), units, jobs: Vec::new(), used: 0.0 }
    }

    /// Whether `newcomer` may use it, if its stages have so much work of `others`.
    fn admit(&mut self, newcomer: &Job, others: Seconds, now: Seconds) -> Result<(), Refused> {
        // It goes before whatever comes now. What of it is done after the newcomer's deadline, in the time that what is booked leaves
        // before that, makes no difference; nor does any to one that has all the time.
        let until = newcomer.deadline.map_or(now, |deadline| deadline - EARLIER);
        let counts = |job: &Job| newcomer.class == Class::Batch || job.class == Class::Interactive;
        let own = self.jobs.iter().filter(|job| counts(job) && !job.is_hopeless(now));
        let own = own.filter(|job| job.deadline.is_some_and(|deadline| deadline <= until));
        let own: Seconds = own.map(|job| job.work_left).sum();
        let others = others.min(self.units as f64 * (until - now) - own);
        if others <= 0.0 {
            return self.policy.admit(&self.jobs, newcomer, now);
        }
        let before = Job {
            id: OTHERS,
            caller: Caller(OTHERS),
            class: Class::Interactive,
            deadline: Some(until),
            work_left: others,
            alone_left: 0.0,
            ..*newcomer
        };
        let jobs: Vec<Job> = self.jobs.iter().copied().chain([before]).collect();
        self.policy.admit(&jobs, newcomer, now)
    }
}

/// A request that needs nothing yet.
fn job(id: u64, call: Call, deadline: Option<Seconds>, now: Seconds) -> Job {
    Job {
        id,
        caller: call.caller,
        class: call.class,
        arrived: now,
        deadline,
        work_left: 0.0,
        alone_left: 0.0,
        alone_at_best: 0.0,
        row: 0.0,
        is_ready: true,
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
