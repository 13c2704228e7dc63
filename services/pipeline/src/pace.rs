//! How long what comes before and after the base model takes, and encoding an image, as measured.
//!
//! The base model has most of the work, and its lane admits a request only if it can be drawn in time. What the later stages need is
//! taken off its deadline first: an image that could be drawn but not enlarged in time is not begun.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The weight of the newest measurement.
const NEWEST: f64 = 0.2;

/// Measurements of what comes before the base model that count.
const SAMPLES: usize = 16;
/// The share of them that are faster than what is told. The slower ones waited for what others compute.
const FASTER: f64 = 0.2;

/// The time before the base model's first row, by reference images; from the base image to the end, by the stages that follow it; and
/// of encoding.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    before: Mutex<BTreeMap<u32, VecDeque<f64>>>,
    seconds: Mutex<BTreeMap<Route, f64>>,
    /// Of encoding, for each pixel; none until it was measured.
    seconds_per_pixel: Mutex<Option<f64>>,
}

/// The stages after the base model, as far as their time depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// Whether a latent is decoded.
    pub(crate) decodes: bool,
    /// Super-resolution levels.
    pub(crate) levels: usize,
}

impl Pace {
    /// What texts, search and up to so many reference images take before the base model begins, if nothing else ran; none until it was
    /// measured.
    pub(crate) fn before_base(&self, neighbours: u32) -> Option<f64> {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<f64> = before.get(&neighbours)?.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get((FASTER * sorted.len() as f64) as usize).copied()
    }

    /// Notes what they took for one request.
    pub(crate) fn note_before_base(&self, neighbours: u32, seconds: f64) {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = before.entry(neighbours).or_default();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(seconds);
    }

    /// What the stages after the base model need; nothing until it was measured.
    pub(crate) fn after_base(&self, route: Route) -> Duration {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = seconds.get(&route).copied().unwrap_or_default();
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// Notes what they took for one image.
    pub(crate) fn note(&self, route: Route, time: Duration) {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = seconds.entry(route).or_insert(time.as_secs_f64());
        *mean += NEWEST * (time.as_secs_f64() - *mean);
    }

    /// What encoding an image of so many pixels takes; nothing until it was measured.
    pub(crate) fn encoding(&self, pixels: u64) -> Duration {
        let seconds = *self.seconds_per_pixel.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::try_from_secs_f64(seconds.unwrap_or_default() * pixels as f64).unwrap_or_default()
    }

    /// Notes what encoding took of so many pixels.
    pub(crate) fn note_encoding(&self, pixels: u64, time: Duration) {
        let seconds = time.as_secs_f64() / pixels.max(1) as f64;
        let mut mean = self.seconds_per_pixel.lock().unwrap_or_else(PoisonError::into_inner);
        *mean = Some(mean.map_or(seconds, |mean| mean + NEWEST * (seconds - mean)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_takes_time_by_the_pixel() {
        let pace = Pace::default();
        assert_eq!(pace.encoding(100), Duration::ZERO);
        pace.note_encoding(100, Duration::from_secs(1));
        assert_eq!(pace.encoding(1600), Duration::from_secs(16));
        pace.note_encoding(200, Duration::from_secs(4));
        assert!(pace.encoding(100).abs_diff(Duration::from_millis(1200)) < Duration::from_millis(1));
    }

    #[test]
    fn what_comes_before_the_base_model_is_told_as_the_faster_ones_took() {
        let pace = Pace::default();
        assert_eq!(pace.before_base(2), None);
        pace.note_before_base(2, 0.5);
        assert_eq!((pace.before_base(2), pace.before_base(0)), (Some(0.5), None));
        for waited in 0..8 {
            pace.note_before_base(2, 0.05);
            pace.note_before_base(2, 0.1 + f64::from(waited));
        }
        assert_eq!(pace.before_base(2), Some(0.05));
        (0..SAMPLES).for_each(|_| pace.note_before_base(2, 0.2));
        assert_eq!(pace.before_base(2), Some(0.2), "it follows what is measured");
    }

    #[test]
    fn each_route_has_a_pace_of_its_own_that_follows_what_is_measured() {
        let pace = Pace::default();
        let route = |levels| Route { decodes: false, levels };
        assert_eq!(pace.after_base(route(2)), Duration::ZERO);
        pace.note(route(2), Duration::from_secs(1));
        assert_eq!(pace.after_base(route(2)), Duration::from_secs(1));
        assert_eq!(pace.after_base(route(1)), Duration::ZERO);
        for _ in 0..50 {
            pace.note(route(2), Duration::from_secs(3));
        }
        assert!(pace.after_base(route(2)).abs_diff(Duration::from_secs(3)) < Duration::from_millis(1));
    }
}
