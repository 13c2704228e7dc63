//! How long what comes before and after the base model takes, and encoding an image, as measured.
//!
//! The base model has most of the work, and its lane admits a request only if it can be drawn in time. What the later stages need is
//! taken off its deadline first: an image that could be drawn but not enlarged in time is not begun.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The weight of the newest measurement.
const NEWEST: f64 = 0.2;

/// Measurements of what comes before the base model that count: so many at most, none that is older, and not before there are so many.
const SAMPLES: usize = 16;
const FRESH: Duration = Duration::from_secs(30);
const LEAST: usize = 5;
/// The share of them that are faster than what is told. The slower ones waited for what others compute.
const FASTER: f64 = 0.2;
/// Sizes of images whose encoding is measured.
const SIZES: usize = 32;

/// The time before the base model's first row, by reference images; from the base image to the end, by the stages that follow it; and
/// of encoding, by pixels.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    before: Mutex<BTreeMap<u32, VecDeque<(Instant, f64)>>>,
    seconds: Mutex<BTreeMap<Route, f64>>,
    encoding: Mutex<BTreeMap<u64, f64>>,
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
    /// What texts, search and up to so many reference images take before the base model begins, if nothing else ran; none as long as
    /// too little of it was measured of late.
    pub(crate) fn before_base(&self, neighbours: u32) -> Option<f64> {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = before.get(&neighbours)?.iter().filter(|(at, _)| at.elapsed() < FRESH);
        let mut sorted: Vec<f64> = fresh.map(|(_, seconds)| *seconds).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get((FASTER * sorted.len() as f64) as usize).copied().filter(|_| sorted.len() >= LEAST)
    }

    /// Notes what they took for one request.
    pub(crate) fn note_before_base(&self, neighbours: u32, seconds: f64) {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = before.entry(neighbours).or_default();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), seconds));
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

    /// What encoding an image of so many pixels takes: as measured, or in proportion to the next larger or smaller one that was; nothing
    /// before any was.
    pub(crate) fn encoding(&self, pixels: u64) -> Duration {
        let encoding = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        let next = encoding.range(pixels..).next().or_else(|| encoding.last_key_value());
        let seconds = next.map_or(0.0, |(&of, seconds)| seconds * pixels as f64 / of.max(1) as f64);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// Notes what encoding took of so many pixels.
    pub(crate) fn note_encoding(&self, pixels: u64, time: Duration) {
        let mut encoding = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = encoding.entry(pixels).or_insert(time.as_secs_f64());
        *mean += NEWEST * (time.as_secs_f64() - *mean);
        if encoding.len() > SIZES {
            encoding.pop_first();
        }
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
        assert_eq!(pace.encoding(1600), Duration::from_secs(16), "as long as no larger one is known");
        pace.note_encoding(1600, Duration::from_secs(4));
        assert_eq!(
            (pace.encoding(1600), pace.encoding(100)),
            (Duration::from_secs(4), Duration::from_secs(1))
        );
        assert_eq!(
            (pace.encoding(800), pace.encoding(3200)),
            (Duration::from_secs(2), Duration::from_secs(8))
        );
        pace.note_encoding(1600, Duration::from_secs(9));
        assert!(pace.encoding(1600).abs_diff(Duration::from_secs(5)) < Duration::from_millis(1));
        (0..100).for_each(|pixels| pace.note_encoding(pixels, Duration::ZERO));
        assert_eq!(pace.encoding.lock().unwrap().len(), SIZES);
    }

    #[test]
    fn what_comes_before_the_base_model_is_told_as_the_faster_ones_took() {
        let pace = Pace::default();
        (1..LEAST).for_each(|_| pace.note_before_base(2, 0.5));
        assert_eq!(pace.before_base(2), None, "so few say little");
        pace.note_before_base(2, 0.5);
        assert_eq!((pace.before_base(2), pace.before_base(0)), (Some(0.5), None));
        for waited in 0..8 {
            pace.note_before_base(2, 0.05);
            pace.note_before_base(2, 0.1 + f64::from(waited));
        }
        assert_eq!(pace.before_base(2), Some(0.05));
        (0..SAMPLES).for_each(|_| pace.note_before_base(2, 0.2));
        assert_eq!(pace.before_base(2), Some(0.2), "it follows what is measured");
        for (at, _) in pace.before.lock().unwrap().get_mut(&2).unwrap() {
            *at = at.checked_sub(FRESH).unwrap();
        }
        assert_eq!(pace.before_base(2), None, "what was slow once refuses nobody for ever");
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
