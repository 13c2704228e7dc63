//! What a forward pass costs: calibrated when the lane starts, corrected by every pass that is measured.
//!
//! The cost of a pass has two parts. What it takes to *compute* depends on the shape of its rows, so each shape has its own estimate. How
//! long it *waits* for a core depends on the other models of the process, so all shapes share that one. As passes are padded, neither
//! depends on how many rows a pass has.
//!
//! Both are estimated from the last `SAMPLES` passes, and a calibration counts as `GUESS` of them:
//!
//! - a pass that is slow for once, such as the first one of a process, changes the estimate little, because what a sample adds is
//!   limited by the median. What such passes cost on average, over many, is added apart;
//! - after a lasting change, up or down, most of the way is gone after 8 passes and all of it after 15.
//!
//! There are two estimates. The [cost](Cost::pass) decides what is admitted. The [cost at best](Cost::at_best) decides what is given up:
//! it falls at once and rises slowly, so that work that was begun is not thrown away for a spell of slowness.
//!
//! Plain arithmetic, without a clock of its own, so that the simulator runs what the lanes run.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::policy::Seconds;

/// Passes that an estimate is made from.
const SAMPLES: usize = 15;
/// Passes that a calibration, or what was measured before an idle time, counts as.
const GUESS: usize = 5;
/// A sample counts as at most so many times the median. Passes that run into other work often take twice as long, and a cost that leaves
/// them out is too low.
const MOST: f64 = 2.0;
/// Beyond that, what a sample adds to the mean excess, as a multiple of the median, is at most this.
const MOST_EXCESS: f64 = 20.0;
/// The weight of a sample in the mean excess.
const NEWEST: f64 = 0.01;
/// The mean excess counts as at most this share of the cost.
const EXCESS: f64 = 0.5;
/// Passes since the lane was idle before which no job is given up for its cost.
const SURE: usize = SAMPLES;
/// The share of the last passes that are faster than the cost at best.
const BEST: f64 = 0.2;
/// Seconds of computing in which the cost at best doubles, if all passes are slower.
const RISE: Seconds = 4.0;
/// Of the measured waits, the longest that are left out: one in so many.
const LEFT_OUT: usize = 8;
/// Idle time after which a lane's measurements are no more than a guess: the machine may have been busy with something else.
const MEMORY: Seconds = 2.0;
/// Shapes with an estimate of their own.
const SHAPES: usize = 32;

/// What a row costs relative to others of its model: the more elements it has, and the more it is conditioned on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    /// Elements, or what else its cost is about in proportion to; above 0.
    pub elements: f64,
    /// Conditions of which requests choose how many there are, such as neighbours. Its cost grows with them, in no known proportion.
    pub conditions: usize,
}

impl From<f64> for Weight {
    fn from(elements: f64) -> Self {
        Self { elements, conditions: 0 }
    }
}

impl Weight {
    fn cmp(&self, other: &Self) -> Ordering {
        self.elements.total_cmp(&other.elements).then(self.conditions.cmp(&other.conditions))
    }
}

/// The measured cost of the passes of a lane.
///
/// Rows of equal [`Weight`] are of one shape. The cost of a shape that was not measured is interpolated.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    /// Seconds of a pass for rows of weight 1, if they are set and not measured.
    set: Option<Seconds>,
    /// By weight.
    shapes: Vec<Shape>,
    waits: VecDeque<Seconds>,
    wait: Seconds,
    /// What slow passes add to the cost on average, as a share of it.
    excess: f64,
    /// Time of steps since the last pass.
    overhead: Seconds,
    /// Passes since the lane was idle.
    fresh: usize,
    /// When the last pass ended.
    last: Seconds,
}

#[derive(Debug, Clone)]
struct Shape {
    weight: Weight,
    /// The fastest pass of the calibration, or what was measured before an idle time.
    guess: Option<Seconds>,
    recent: VecDeque<Seconds>,
    last: Seconds,
    typical: Seconds,
    /// None until enough was measured.
    best: Option<Seconds>,
}

impl Cost {
    /// A cost that is set: `seconds` for a pass over rows of `weight`, and in proportion for others. Nothing is measured.
    pub fn set(seconds: Seconds, weight: impl Into<Weight>) -> Self {
        Self { set: Some(seconds / weight.into().elements), ..Self::default() }
    }

    /// Predicted seconds of a pass over rows of `weight`, with its wait for a core; 0 if nothing was measured yet.
    pub fn pass(&self, weight: impl Into<Weight>) -> Seconds {
        self.computing(weight) + if self.set.is_some() { 0.0 } else { self.wait }
    }

    /// Predicted seconds of a pass over rows of `weight` once it has its cores; 0 if nothing was measured yet.
    pub fn computing(&self, weight: impl Into<Weight>) -> Seconds {
        let weight = weight.into();
        if let Some(seconds) = self.set {
            return seconds * weight.elements;
        }
        let computing = self.interpolated(weight, |shape| shape.typical).unwrap_or(0.0);
        computing * (1.0 + self.excess.min(EXCESS))
    }

    /// What it costs if the next passes are like the faster ones of late; 0 if too little was measured to tell.
    pub fn at_best(&self, weight: impl Into<Weight>) -> Seconds {
        let weight = weight.into();
        match self.set {
            Some(seconds) => seconds * weight.elements,
            None if self.fresh < SURE => 0.0,
            // The others may stop, but hardly all of them at once.
            None => {
                let best = self.interpolated(weight, |shape| shape.best.unwrap_or(0.0));
                best.unwrap_or(0.0) + self.wait / 2.0
            }
        }
    }

    /// Work arrives at an idle lane.
    pub fn wake(&mut self, now: Seconds) {
        self.fresh = 0;
        if now - self.last >= MEMORY {
            self.shapes.iter_mut().for_each(Shape::rest);
            self.waits.clear();
            (self.wait, self.excess) = (0.0, 0.0);
        }
    }

    /// Doubts the shapes that are not `calibrated`, before these are measured again. Those of the same size are interpolated then; others
    /// count as at most twice what they are in proportion.
    pub fn doubt_all_but(&mut self, calibrated: &[Weight]) {
        let Some(own) = calibrated.first() else { return };
        let is_calibrated = |weight: &Weight| calibrated.contains(weight);
        let is_of_their_size =
            |weight: &Weight| calibrated.iter().any(|one| one.elements.total_cmp(&weight.elements).is_eq());
        self.shapes.retain(|shape| is_calibrated(&shape.weight) || !is_of_their_size(&shape.weight));
        let per_element = self.computing(*own) / own.elements;
        for shape in self.shapes.iter_mut().filter(|shape| !is_calibrated(&shape.weight)) {
            shape.guess = Some(shape.typical.min(MOST * per_element * shape.weight.elements));
            shape.recent.clear();
            shape.best = None;
            shape.estimate(0.0);
        }
    }

    /// Notes a pass before any work came, over rows of `weight`.
    pub fn note_calibration(&mut self, weight: impl Into<Weight>, computing: Seconds, now: Seconds) {
        let shape = self.shape(weight.into(), now);
        // Nothing makes a pass faster than it is.
        shape.guess = Some(shape.guess.map_or(computing, |guess| guess.min(computing)));
        shape.estimate(0.0);
    }

    /// Notes what a session did between passes; the next pass bears it.
    pub fn note_overhead(&mut self, time: Seconds) {
        self.overhead += time;
    }

    /// Notes a pass over rows of `weight` that ended now, and how long it waited for its cores.
    pub fn note_pass(
        &mut self,
        weight: impl Into<Weight>,
        computing: Seconds,
        waiting: Seconds,
        now: Seconds,
    ) {
        let computing = computing + std::mem::take(&mut self.overhead);
        let shape = self.shape(weight.into(), now);
        push(&mut shape.recent, computing);
        let excess = shape.estimate(computing);
        self.excess += NEWEST * (excess - self.excess);
        push(&mut self.waits, waiting);
        self.wait = trimmed_mean(&self.waits);
        self.fresh += 1;
        self.last = now;
    }

    /// The estimate for rows of `weight`, made if there is none.
    fn shape(&mut self, weight: Weight, now: Seconds) -> &mut Shape {
        let found = self.shapes.binary_search_by(|shape| shape.weight.cmp(&weight));
        let place = found.unwrap_or_else(|place| {
            let mut place = place;
            if self.shapes.len() == SHAPES {
                let age = |(_, a): &(usize, &Shape), (_, b): &(usize, &Shape)| a.last.total_cmp(&b.last);
                let oldest = self.shapes.iter().enumerate().min_by(age).map_or(0, |(oldest, _)| oldest);
                self.shapes.remove(oldest);
                place -= usize::from(oldest < place);
            }
            self.shapes.insert(place, Shape::new(weight));
            place
        });
        let shape = &mut self.shapes[place];
        shape.last = now;
        shape
    }

    /// An estimate for rows of `weight`: of that shape; on the line between the next smaller and larger ones; in proportion to the
    /// smallest below it, on the line through the two largest above. What a pass costs whatever its size is then not counted twice.
    fn interpolated(&self, weight: Weight, cost: impl Fn(&Shape) -> Seconds) -> Option<Seconds> {
        let are_of_one_size = |a: &Shape, b: &Shape| a.weight.elements.total_cmp(&b.weight.elements).is_eq();
        let sizes = self.shapes.chunk_by(are_of_one_size).map(|shapes| {
            let costs: Vec<_> =
                shapes.iter().map(|shape| (shape.weight.conditions as f64, cost(shape))).collect();
            Some((shapes.first()?.weight.elements, within(&costs, weight.conditions as f64)?))
        });
        let sizes: Vec<Point> = sizes.collect::<Option<_>>()?;
        let elements = weight.elements;
        match around(&sizes, elements) {
            ([], [smallest, ..]) => Some(smallest.1 * elements / smallest.0),
            ([only], []) => Some(only.1 * elements / only.0),
            ([.., a, b], []) => Some(line(*a, *b, elements).max(a.1)),
            _ => within(&sizes, elements),
        }
    }
}

/// What something costs, by what it depends on.
type Point = (f64, Seconds);

/// The points below `at`, and the others.
fn around(points: &[Point], at: f64) -> (&[Point], &[Point]) {
    points.split_at(points.partition_point(|(place, _)| *place < at))
}

/// The cost at `at`, on the line between the points next to it; beyond all of them, that of the nearest.
fn within(points: &[Point], at: f64) -> Option<Seconds> {
    Some(match around(points, at) {
        (_, [same, ..]) if same.0 <= at => same.1,
        ([.., a], [b, ..]) => line(*a, *b, at).max(a.1),
        ([.., nearest], []) | ([], [nearest, ..]) => nearest.1,
        ([], []) => return None,
    })
}

fn line(a: Point, b: Point, at: f64) -> Seconds {
    a.1 + (b.1 - a.1) * (at - a.0) / (b.0 - a.0)
}

impl Shape {
    fn new(weight: Weight) -> Self {
        Self { weight, guess: None, recent: VecDeque::new(), last: 0.0, typical: 0.0, best: None }
    }

    /// What was measured becomes a guess, and not a slow one: a spell of slowness may be over. If it is not, the next passes say so.
    fn rest(&mut self) {
        if let Some(best) = self.best {
            self.guess = Some(self.typical.min(MOST * best));
            self.recent.clear();
            self.estimate(0.0);
        }
    }

    /// Makes the estimates, after a pass that took `newest`. Gives by how much that is beyond what a sample may add, in medians.
    fn estimate(&mut self, newest: Seconds) -> f64 {
        let guesses = GUESS.min(SAMPLES - self.recent.len());
        let guesses = self.guess.iter().flat_map(|guess| std::iter::repeat_n(*guess, guesses));
        let mut sorted: Vec<Seconds> = self.recent.iter().copied().chain(guesses).collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let most = MOST * median;
        self.typical = sorted.iter().map(|sample| sample.min(most)).sum::<Seconds>() / sorted.len() as f64;
        if self.guess.is_some() || sorted.len() >= SURE {
            let fast = sorted[(BEST * (sorted.len() - 1) as f64) as usize];
            let risen = self.best.map_or(fast, |best| best * (newest / RISE).exp2());
            self.best = Some(fast.min(risen));
        }
        ((newest - most) / median.max(f64::MIN_POSITIVE)).clamp(0.0, MOST_EXCESS)
    }
}

fn push(samples: &mut VecDeque<Seconds>, sample: Seconds) {
    if samples.len() == SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

/// The mean without the longest of the waits. Most are zero or as long as another model's pass, so their median says little.
fn trimmed_mean(waits: &VecDeque<Seconds>) -> Seconds {
    let mut sorted: Vec<Seconds> = waits.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let kept = sorted.len() - sorted.len().div_ceil(LEFT_OUT);
    sorted[..kept].iter().sum::<Seconds>() / kept.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes of one weight, 10 ms after each other.
    fn passes(cost: &mut Cost, count: usize, computing: Seconds, waiting: Seconds) {
        for _ in 0..count {
            cost.note_pass(1.0, computing, waiting, cost.last + 0.01);
        }
    }

    fn is_about(seconds: Seconds, expected: Seconds) -> bool {
        (seconds - expected).abs() < 1e-9
    }

    #[test]
    fn a_calibration_is_believed_until_passes_say_otherwise() {
        let mut cost = Cost::default();
        assert!(
            is_about(cost.pass(5.0), 0.0) && is_about(cost.at_best(5.0), 0.0),
            "nothing is known: {cost:?}"
        );
        cost.note_calibration(1.0, 9.0, 0.0);
        cost.note_calibration(1.0, 0.05, 0.0);
        cost.note_calibration(1.0, 0.4, 0.0);
        assert!(
            is_about(cost.pass(1.0), 0.05) && is_about(cost.pass(3.0), 0.15),
            "the fastest counts: {cost:?}"
        );
        passes(&mut cost, 15, 0.02, 0.0);
        assert!(is_about(cost.pass(1.0), 0.02), "{cost:?}");
        passes(&mut cost, 15, 0.08, 0.0);
        assert!((0.08..0.1).contains(&cost.pass(1.0)), "with what the change looked like at first: {cost:?}");
    }

    #[test]
    fn a_pass_that_was_slow_for_once_changes_little() {
        let mut cost = Cost::default();
        passes(&mut cost, 15, 0.05, 0.0);
        passes(&mut cost, 1, 60.0, 60.0);
        assert!((0.05..0.065).contains(&cost.pass(1.0)), "a machine that stood still: {cost:?}");
        passes(&mut cost, 15, 0.05, 0.0);
        assert!((0.05..0.06).contains(&cost.pass(1.0)), "{cost:?}");
    }

    #[test]
    fn each_shape_has_a_cost_and_others_are_between() {
        let mut cost = Cost::default();
        for (weight, seconds) in [(100.0, 0.2), (10.0, 0.02), (50.0, 0.04)] {
            (0..15).for_each(|_| cost.note_pass(weight, seconds, 0.0, 0.0));
        }
        for (weight, seconds) in
            [(10.0, 0.02), (50.0, 0.04), (100.0, 0.2), (30.0, 0.03), (5.0, 0.01), (200.0, 0.52)]
        {
            assert!(is_about(cost.pass(weight), seconds), "{weight}: {}", cost.pass(weight));
        }
        for weight in 0..100 {
            cost.note_pass(1000.0 + f64::from(weight), 1.0, 0.0, 1.0 + f64::from(weight));
        }
        assert_eq!(cost.shapes.len(), SHAPES);
    }

    #[test]
    fn what_a_row_is_conditioned_on_counts_apart_from_its_size() {
        let row = |elements, conditions| Weight { elements, conditions };
        let mut cost = Cost::default();
        cost.note_calibration(row(100.0, 8), 0.028, 0.0);
        assert!(is_about(cost.pass(row(100.0, 1)), 0.028), "as long as no less is known: {cost:?}");
        cost.note_calibration(row(100.0, 1), 0.021, 0.0);
        for (weight, seconds) in [
            (row(100.0, 0), 0.021),
            (row(100.0, 1), 0.021),
            (row(100.0, 3), 0.023),
            (row(100.0, 8), 0.028),
            (row(400.0, 8), 0.112),
            (row(400.0, 1), 0.084),
            (row(50.0, 1), 0.0105),
        ] {
            assert!(is_about(cost.pass(weight), seconds), "{weight:?}: {}", cost.pass(weight));
        }
        // What was slow between them is forgotten when they are measured again.
        (0..15).for_each(|_| cost.note_pass(row(100.0, 3), 0.5, 0.0, 0.0));
        assert!(cost.pass(row(100.0, 3)) > 0.4 && is_about(cost.pass(row(100.0, 8)), 0.028), "{cost:?}");
        for (size, seconds) in [(200.0, 9.0), (300.0, 0.1)] {
            (0..15).for_each(|_| cost.note_pass(row(size, 8), seconds, 0.0, 0.0));
        }
        cost.doubt_all_but(&[row(100.0, 8), row(100.0, 1)]);
        assert!(is_about(cost.pass(row(100.0, 3)), 0.023), "{cost:?}");
        assert!(cost.pass(row(200.0, 8)) < 0.2 && is_about(cost.pass(row(300.0, 8)), 0.1), "{cost:?}");
        // Another size of which one shape was measured.
        (0..15).for_each(|_| cost.note_pass(row(400.0, 8), 0.2, 0.0, 0.0));
        assert!(
            is_about(cost.pass(row(400.0, 2)), 0.2) && is_about(cost.pass(row(100.0, 1)), 0.021),
            "{cost:?}"
        );
    }

    #[test]
    fn waiting_for_a_core_counts_for_all_shapes_until_the_lane_was_idle() {
        let mut cost = Cost::default();
        (0..15).for_each(|_| cost.note_pass(1.0, 0.01, 0.15, 1.0));
        assert!(is_about(cost.pass(1.0), 0.16) && is_about(cost.pass(2.0), 0.17), "{cost:?}");
        assert!(is_about(cost.at_best(1.0), 0.01 + 0.075), "{cost:?}");
        cost.wake(1.0 + MEMORY / 2.0);
        assert!(is_about(cost.pass(1.0), 0.16));
        cost.wake(1.0 + MEMORY);
        assert!(is_about(cost.pass(1.0), 0.01), "{cost:?}");
    }

    #[test]
    fn the_cost_at_best_falls_at_once_and_rises_slowly() {
        let mut cost = Cost::default();
        cost.note_calibration(1.0, 0.01, 0.0);
        passes(&mut cost, 14, 0.1, 0.0);
        assert!(is_about(cost.at_best(1.0), 0.0), "so early it says nothing: {cost:?}");
        passes(&mut cost, 10, 0.1, 0.0);
        assert!(cost.at_best(1.0) < 0.02 && cost.pass(1.0) > 0.09, "{cost:?}");
        passes(&mut cost, 200, 0.1, 0.0);
        assert!(is_about(cost.at_best(1.0), 0.1), "{cost:?}");
        passes(&mut cost, 4, 0.01, 0.0);
        assert!(is_about(cost.at_best(1.0), 0.01), "{cost:?}");
    }

    #[test]
    fn a_cost_that_is_set_stays() {
        let mut cost = Cost::set(0.05, 10.0);
        passes(&mut cost, 100, 7.0, 7.0);
        assert!(is_about(cost.pass(20.0), 0.1) && is_about(cost.at_best(20.0), 0.1), "{cost:?}");
    }
}
