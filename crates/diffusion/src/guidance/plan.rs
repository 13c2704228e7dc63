//! Which rows each step of a trajectory takes.

use std::ops::Range;

use super::{Condition, Draw, Guidance, GuidanceError, StepKind, StepPlan, Strategy};
use crate::noise::{NoiseSource, Stream};

/// The guidance of one trajectory, step by step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    guidance: Guidance,
    available: Condition,
    noise: NoiseSource,
    /// The evaluations that are guided, from the first to before the last.
    guided: (usize, usize),
    rescale: f32,
}

impl Plan {
    /// A plan for a request that has the conditions `available`.
    ///
    /// Where a condition is missing there is nothing to interleave: without neighbours every strategy but
    /// [`Strategy::Off`] guides by the text alone (Imagen), without text by the neighbours alone, without both not at
    /// all. `noise` decides a random [`Draw`].
    pub fn new(guidance: Guidance, available: Condition, noise: NoiseSource) -> Result<Self, GuidanceError> {
        let valid_weight = |weight: f32| weight.is_finite() && weight >= 0.0;
        if !valid_weight(guidance.text_weight) {
            return Err(GuidanceError::TextWeight(guidance.text_weight));
        }
        if !valid_weight(guidance.neighbour_weight) {
            return Err(GuidanceError::NeighbourWeight(guidance.neighbour_weight));
        }
        if let Strategy::Interleaved { ratio, .. } | Strategy::Weighted { ratio } = guidance.strategy
            && !(0.0..=1.0).contains(&ratio)
        {
            return Err(GuidanceError::Ratio(ratio));
        }
        Ok(Self { guidance, available, noise, guided: (0, usize::MAX), rescale: 0.0 })
    }

    /// Guides only in the evaluations `guided`; all others see what there is, in one row.
    /// [`Sampler::evaluations_between`](crate::Sampler::evaluations_between) gives those of an interval of noise levels.
    #[must_use]
    pub fn only_in(self, guided: Range<usize>) -> Self {
        Self { guided: (guided.start, guided.end), ..self }
    }

    /// Has guided outputs rescaled by `phi`, in [0, 1].
    pub fn rescaled(self, phi: f32) -> Result<Self, GuidanceError> {
        if !(0.0..=1.0).contains(&phi) {
            return Err(GuidanceError::Rescale(phi));
        }
        Ok(Self { rescale: phi, ..self })
    }

    /// The rows of step `i`; the same whenever and wherever it is asked for.
    pub fn step(&self, i: usize) -> StepPlan {
        self.of_kind(self.kind(i))
    }

    /// The most rows any step takes.
    #[cfg(test)]
    fn max_rows(&self) -> usize {
        let rows = |kind| self.of_kind(kind).rows().len();
        if self.guided.0 >= self.guided.1 {
            return rows(StepKind::Conditional);
        }
        match self.guidance.strategy {
            Strategy::Interleaved { .. } if self.available == Condition::BOTH => {
                rows(StepKind::TextEnhanced).max(rows(StepKind::NeighbourEnhanced))
            }
            _ => rows(self.kind(self.guided.0)),
        }
    }

    fn kind(&self, i: usize) -> StepKind {
        if !(self.guided.0..self.guided.1).contains(&i) {
            return StepKind::Conditional;
        }
        match (self.guidance.strategy, self.available) {
            (Strategy::Off, _) | (_, Condition::NONE) => StepKind::Conditional,
            (Strategy::Text, _) | (_, Condition::TEXT) => StepKind::TextEnhanced,
            (_, Condition::NEIGHBOURS) => StepKind::NeighbourEnhanced,
            (Strategy::Joint, _) => StepKind::Joint,
            (Strategy::Weighted { .. }, _) => StepKind::Weighted,
            (Strategy::Interleaved { draw, .. }, _) if self.draws_text(draw, i) => StepKind::TextEnhanced,
            (Strategy::Interleaved { .. }, _) => StepKind::NeighbourEnhanced,
        }
    }

    fn draws_text(&self, draw: Draw, i: usize) -> bool {
        let r = self.ratio();
        match draw {
            Draw::Random => self.noise.uniform(Stream::Interleave, i as u32) < r,
            Draw::LowDiscrepancy => ((i + 1) as f64 * r).floor() > (i as f64 * r).floor(),
        }
    }

    /// The share of text-enhanced output; 1 where neighbours do not guide.
    fn ratio(&self) -> f64 {
        match self.guidance.strategy {
            Strategy::Interleaved { ratio, .. } | Strategy::Weighted { ratio } => f64::from(ratio),
            Strategy::Joint | Strategy::Text | Strategy::Off => 1.0,
        }
    }

    fn of_kind(&self, kind: StepKind) -> StepPlan {
        let (w_p, w_n) = (f64::from(self.guidance.text_weight), f64::from(self.guidance.neighbour_weight));
        let plan = |terms: &[(Condition, f64)]| StepPlan::new(kind, terms, self.available, self.rescale);
        match kind {
            StepKind::Conditional => plan(&[(Condition::BOTH, 1.0)]),
            StepKind::TextEnhanced => plan(&[(Condition::BOTH, w_p), (Condition::NEIGHBOURS, 1.0 - w_p)]),
            StepKind::NeighbourEnhanced => plan(&[(Condition::BOTH, w_n), (Condition::TEXT, 1.0 - w_n)]),
            StepKind::Joint => plan(&[(Condition::BOTH, w_p), (Condition::NONE, 1.0 - w_p)]),
            StepKind::Weighted => {
                let r = self.ratio();
                plan(&[
                    (Condition::BOTH, r * w_p + (1.0 - r) * w_n),
                    (Condition::NEIGHBOURS, r * (1.0 - w_p)),
                    (Condition::TEXT, (1.0 - r) * (1.0 - w_n)),
                ])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::guidance::StepPlan;

    const INTERLEAVED: Strategy = Strategy::Interleaved { ratio: 0.5, draw: Draw::Random };

    fn plan_of(strategy: Strategy, w_p: f32, w_n: f32, available: Condition, seed: u64) -> Plan {
        let guidance = Guidance { strategy, text_weight: w_p, neighbour_weight: w_n };
        Plan::new(guidance, available, NoiseSource::new(seed, 0, 0)).unwrap()
    }

    fn plan(strategy: Strategy, w_p: f32, w_n: f32) -> Plan {
        plan_of(strategy, w_p, w_n, Condition::BOTH, 1)
    }

    fn rows(step: &StepPlan) -> Vec<(Condition, f32)> {
        step.rows().iter().map(|row| (row.condition, row.coefficient)).collect()
    }

    /// A model that answers each condition with a number of its own.
    fn output(condition: Condition) -> f64 {
        match (condition.text, condition.neighbours) {
            (true, true) => 1.0,
            (true, false) => 0.3,
            (false, true) => -0.7,
            (false, false) => 0.1,
        }
    }

    fn guided(step: &StepPlan) -> f64 {
        step.rows().iter().map(|row| f64::from(row.coefficient) * output(row.condition)).sum()
    }

    #[test]
    fn rows_are_those_of_the_paper() {
        let interleaved = |ratio| plan(Strategy::Interleaved { ratio, draw: Draw::Random }, 4.0, 3.0).step(0);
        let text = [(Condition::BOTH, 4.0), (Condition::NEIGHBOURS, -3.0)];
        assert_eq!(rows(&interleaved(1.0)), text);
        assert_eq!(rows(&interleaved(0.0)), [(Condition::BOTH, 3.0), (Condition::TEXT, -2.0)]);
        assert_eq!(rows(&plan(Strategy::Text, 4.0, 3.0).step(0)), text);
        let joint = plan(Strategy::Joint, 4.0, 3.0).step(0);
        assert_eq!(rows(&joint), [(Condition::BOTH, 4.0), (Condition::NONE, -3.0)]);
        let weighted = plan(Strategy::Weighted { ratio: 0.25 }, 4.0, 3.0).step(0);
        assert_eq!(
            rows(&weighted),
            [(Condition::BOTH, 3.25), (Condition::NEIGHBOURS, -0.75), (Condition::TEXT, -1.5)]
        );
        assert_eq!(rows(&plan(Strategy::Off, 4.0, 3.0).step(0)), [(Condition::BOTH, 1.0)]);
    }

    #[test]
    fn a_weight_of_one_is_the_conditional_row() {
        for strategy in [INTERLEAVED, Strategy::Weighted { ratio: 0.3 }, Strategy::Joint, Strategy::Text] {
            let plan = plan(strategy, 1.0, 1.0);
            assert_eq!(plan.max_rows(), 1);
            for step in (0..20).map(|i| plan.step(i)) {
                assert_eq!(rows(&step), [(Condition::BOTH, 1.0)]);
                assert_eq!(step.kind(), StepKind::Conditional);
            }
        }
    }

    #[test]
    fn outside_the_interval_nothing_guides() {
        for strategy in [INTERLEAVED, Strategy::Weighted { ratio: 0.3 }, Strategy::Joint, Strategy::Text] {
            let always = plan(strategy, 4.0, 3.0);
            let limited = always.only_in(3..7);
            for i in 0..10 {
                let expected =
                    if (3..7).contains(&i) { always.step(i) } else { plan(Strategy::Off, 4.0, 3.0).step(i) };
                assert_eq!(limited.step(i), expected, "{strategy:?} {i}");
            }
            assert_eq!(limited.max_rows(), always.max_rows());
            assert_eq!(always.only_in(5..5).max_rows(), 1);
        }
    }

    #[test]
    fn what_guides_is_rescaled_to_the_row_with_all_conditions() {
        let plan = plan(Strategy::Joint, 4.0, 3.0).rescaled(0.7).unwrap().only_in(0..1);
        assert_eq!((plan.step(0).rescale(), plan.step(0).rows()[0].condition), (0.7, Condition::BOTH));
        assert_eq!(plan.step(1).rescale(), 0.0);
        // w = 0 leaves the row without conditions.
        let none = plan_of(Strategy::Joint, 0.0, 0.0, Condition::BOTH, 1).rescaled(0.7).unwrap();
        assert_eq!((none.step(0).rescale(), none.step(0).rows().len()), (0.0, 1));
        assert_eq!(plan.rescaled(1.5), Err(GuidanceError::Rescale(1.5)));
    }

    #[test]
    fn only_the_guided_half_takes_two_rows() {
        let plan = plan(INTERLEAVED, 5.0, 1.0);
        assert_eq!(plan.max_rows(), 2);
        let kinds: Vec<_> = (0..50).map(|i| (plan.step(i).kind(), plan.step(i).rows().len())).collect();
        assert!(kinds.contains(&(StepKind::TextEnhanced, 2)));
        assert!(kinds.contains(&(StepKind::Conditional, 1)));
    }

    #[test]
    fn a_ratio_of_one_or_zero_is_purely_text_or_neighbours() {
        for draw in [Draw::Random, Draw::LowDiscrepancy] {
            for (ratio, kind) in [(1.0, StepKind::TextEnhanced), (0.0, StepKind::NeighbourEnhanced)] {
                let plan = plan(Strategy::Interleaved { ratio, draw }, 4.0, 3.0);
                assert!((0..1000).all(|i| plan.step(i).kind() == kind), "{draw:?} {ratio}");
            }
        }
    }

    #[test]
    fn interleaved_is_weighted_in_the_mean() {
        let ratio = 0.3;
        let weighted = guided(&plan(Strategy::Weighted { ratio }, 4.0, 3.0).step(0));
        let seeds = 40_000;
        let interleaved = Strategy::Interleaved { ratio, draw: Draw::Random };
        let draw = |seed| guided(&plan_of(interleaved, 4.0, 3.0, Condition::BOTH, seed).step(5));
        let mean = (0..seeds).map(draw).sum::<f64>() / f64::from(seeds as u32);
        // e_p - e_n is 3.7, so the standard error is 3.7 sqrt(0.21 / 40000) = 0.0085.
        assert!((mean - weighted).abs() < 0.03, "{mean} is not {weighted}");
    }

    #[test]
    fn low_discrepancy_keeps_the_shares_at_every_length() {
        let plan = plan(Strategy::Interleaved { ratio: 0.3, draw: Draw::LowDiscrepancy }, 4.0, 3.0);
        let mut text = 0;
        for i in 0..500 {
            text += i32::from(plan.step(i).kind() == StepKind::TextEnhanced);
            assert!((f64::from(text) - 0.3 * (i + 1) as f64).abs() <= 1.0);
        }
    }

    #[test]
    fn without_neighbours_it_is_imagen() {
        for strategy in [INTERLEAVED, Strategy::Weighted { ratio: 0.3 }, Strategy::Joint, Strategy::Text] {
            let plan = plan_of(strategy, 4.0, 3.0, Condition::TEXT, 1);
            for step in (0..20).map(|i| plan.step(i)) {
                assert_eq!(rows(&step), [(Condition::TEXT, 4.0), (Condition::NONE, -3.0)]);
                assert_eq!(step.kind(), StepKind::TextEnhanced);
            }
        }
    }

    #[test]
    fn without_text_the_neighbours_guide() {
        let plan = plan_of(INTERLEAVED, 4.0, 3.0, Condition::NEIGHBOURS, 1);
        assert_eq!(rows(&plan.step(0)), [(Condition::NEIGHBOURS, 3.0), (Condition::NONE, -2.0)]);
        let text_only = plan_of(Strategy::Text, 4.0, 3.0, Condition::NEIGHBOURS, 1);
        assert_eq!(rows(&text_only.step(0)), [(Condition::NEIGHBOURS, 1.0)]);
    }

    #[test]
    fn with_nothing_to_go_by_nothing_guides() {
        let plan = plan_of(INTERLEAVED, 4.0, 3.0, Condition::NONE, 1);
        assert_eq!(rows(&plan.step(0)), [(Condition::NONE, 1.0)]);
    }

    #[test]
    fn bad_settings_are_refused() {
        let new = |strategy, text_weight, neighbour_weight| {
            let guidance = Guidance { strategy, text_weight, neighbour_weight };
            Plan::new(guidance, Condition::BOTH, NoiseSource::new(1, 0, 0)).unwrap_err()
        };
        assert_eq!(new(Strategy::Weighted { ratio: 1.5 }, 1.0, 1.0), GuidanceError::Ratio(1.5));
        assert_eq!(new(Strategy::Joint, -1.0, 1.0), GuidanceError::TextWeight(-1.0));
        assert_eq!(new(Strategy::Joint, 1.0, f32::INFINITY), GuidanceError::NeighbourWeight(f32::INFINITY));
    }

    proptest! {
        #[test]
        fn coefficients_sum_to_one(
            w_p in 0_f32..40.0, w_n in 0_f32..40.0, ratio in 0_f32..=1.0, strategy in 0_usize..6,
            text: bool, neighbours: bool, i in 0_usize..300,
        ) {
            let strategy = [
                Strategy::Interleaved { ratio, draw: Draw::Random },
                Strategy::Interleaved { ratio, draw: Draw::LowDiscrepancy },
                Strategy::Weighted { ratio },
                Strategy::Joint,
                Strategy::Text,
                Strategy::Off,
            ][strategy];
            let available = Condition { text, neighbours };
            let plan = plan_of(strategy, w_p, w_n, available, 3);
            let step = plan.step(i);
            let sum: f64 = step.rows().iter().map(|row| f64::from(row.coefficient)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-5);
            prop_assert!((1..=plan.max_rows()).contains(&step.rows().len()));
            for (k, row) in step.rows().iter().enumerate() {
                prop_assert!(row.coefficient != 0.0);
                prop_assert_eq!(row.condition, row.condition.within(available));
                prop_assert!(step.rows()[..k].iter().all(|other| other.condition != row.condition));
            }
        }
    }
}
