//! What an admitted request has booked, and how that changes while its images are drawn.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

use reverie_engine::policy::Seconds;
use reverie_proto::diffusion::v1::Prediction;
use reverie_proto::generation::v1::Stage;
use reverie_service_kit::Context;
use reverie_stage::lanes;

use super::{Admission, BESIDE, Need, Part, Resource, State, job, update};
use crate::position::Place;

/// What an admitted request has booked, until this is dropped.
pub(crate) struct Booking {
    pub(super) admission: Arc<Admission>,
    pub(super) id: u64,
    /// What each image needs, in the order of the cascade; the first ones are booked from the beginning.
    pub(super) needs: Vec<Need>,
}

impl Booking {
    /// An image is at `place`, of which `share` is done: what comes before it is over.
    pub(crate) fn reach(&self, image: usize, place: Place, share: f64) {
        self.admission.lock().change(self.id, |parts| {
            for part in parts.iter_mut().filter(|part| part.image == image) {
                match part.need.place.cmp(&place) {
                    Ordering::Less => part.left = 0.0,
                    Ordering::Equal => part.left = 1.0 - share,
                    Ordering::Greater => {}
                }
            }
        });
    }

    /// Whether a stage of an image can be done by the deadline of `context`, in which case it is booked if it was not. A stage that
    /// predicts nothing is tried.
    pub(crate) fn can_do(&self, context: Context, image: usize, place: Place) -> bool {
        let Some(need) = self.needs.iter().find(|need| need.place == place) else { return true };
        let now = self.admission.seconds(Instant::now());
        let call = lanes::call(context);
        let deadline = call.deadline.map(|deadline| self.admission.seconds(deadline));
        if deadline.is_some_and(|deadline| now + BESIDE * need.prediction.seconds > deadline) {
            return false;
        }
        let mut state = self.admission.lock();
        let State { requests, resources, .. } = &mut *state;
        let Some(parts) = requests.get_mut(&self.id) else { return true };
        if parts.iter().any(|part| part.image == image && part.need.place == place) {
            return true;
        }
        let Prediction { resource: id, units, .. } = need.prediction;
        let resource = resources.entry(id).or_insert_with(|| Resource::new((units as usize).max(1)));
        resource.used = now;
        let mut job = job(self.id, call, deadline, now);
        parts.push(Part { image, need: *need, left: 1.0 });
        update(&mut job, id, parts);
        let own = resource.jobs.iter().position(|job| job.id == self.id);
        let own = own.map(|own| resource.jobs.swap_remove(own));
        // What other pipelines have given the stage since is for its lane to say.
        let fits = resource.admit(&job, 0.0, now).is_ok();
        if fits {
            resource.jobs.push(job);
        } else {
            parts.pop();
            resource.jobs.extend(own);
        }
        fits
    }

    /// What so many images are predicted to take of all models, seconds.
    pub(crate) fn model_seconds(&self, images: usize) -> Seconds {
        let models = self.needs.iter().filter(|need| need.place != Stage::Encode.into());
        let seconds = |need: &Need| {
            let times = if need.is_shared { 1.0 } else { images as f64 };
            times * need.prediction.unit_seconds
        };
        models.map(seconds).sum()
    }

    /// An image has ended, drawn or not: it needs nothing any more.
    pub(crate) fn end(&self, image: usize) {
        self.admission.lock().change(self.id, |parts| parts.retain(|part| part.image != image));
    }

    /// Predicted seconds of a stage, if nothing else ran; 0 if it predicts nothing.
    pub(crate) fn of(&self, place: Place) -> Seconds {
        let needs = self.needs.iter().filter(|need| need.place == place);
        BESIDE * needs.map(|need| need.prediction.seconds).sum::<Seconds>()
    }

    /// Predicted seconds of an image's stages after `place`, if nothing else ran.
    pub(crate) fn after(&self, image: usize, place: Place) -> Seconds {
        let state = self.admission.lock();
        let parts = state.requests.get(&self.id).map(Vec::as_slice).unwrap_or_default();
        let of_image = parts.iter().filter(|part| part.image == image);
        let after = of_image.filter(|part| part.need.place > place);
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
