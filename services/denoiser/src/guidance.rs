//! The guidance that a request asks for, checked, with the model's defaults for what it leaves open.

use std::ops::Range;

use reverie_diffusion::Sampler;
use reverie_diffusion::guidance::{Draw, Guidance, GuidanceError, Plan, Strategy};
use reverie_packages::package::{Defaults, GuidanceCondition, StrategyKind};
use reverie_proto::diffusion::v1::{self as wire, GuidanceInterval, GuidanceStrategy, InterleaveDraw};
use reverie_service_kit::{Violations, ranges};

const DEFAULT_INTERLEAVE_RATIO: f32 = 0.5;

/// Guidance with every value set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settled {
    strategy: GuidanceStrategy,
    text_weight: f32,
    neighbour_weight: f32,
    interleave_ratio: f32,
    interleave_draw: InterleaveDraw,
    rescale: f32,
    min_sigma: f32,
    max_sigma: f32,
}

impl Settled {
    pub(crate) fn of(
        violations: &mut Violations,
        asked: Option<&wire::Guidance>,
        defaults: &Defaults,
    ) -> Self {
        let unset = wire::Guidance::default();
        let asked = asked.unwrap_or(&unset);
        let asked = ranges::guidance(violations, asked);
        let text_weight = asked.text_weight.or(defaults.text_weight).unwrap_or(1.0);
        let neighbour_weight = asked.neighbour_weight.or(defaults.neighbour_weight).unwrap_or(1.0);
        let ratio = asked.interleave_ratio.or(defaults.interleave_ratio);
        let interval = asked.interval.unwrap_or_default();
        let interleave_draw = match asked.interleave_draw() {
            InterleaveDraw::Unspecified => InterleaveDraw::Random,
            draw => draw,
        };
        let own = match defaults.guidance_strategy {
            None | Some(StrategyKind::Interleaved) => GuidanceStrategy::Interleaved,
            Some(StrategyKind::Weighted) => GuidanceStrategy::Weighted,
            Some(StrategyKind::Joint) => GuidanceStrategy::Joint,
        };
        let strategy = match asked.strategy() {
            GuidanceStrategy::Unspecified => own,
            strategy => strategy,
        };
        Self {
            strategy,
            text_weight,
            neighbour_weight,
            interleave_ratio: ratio.unwrap_or(DEFAULT_INTERLEAVE_RATIO),
            interleave_draw,
            rescale: asked.rescale.unwrap_or(0.0),
            min_sigma: interval.min_sigma.unwrap_or(0.0),
            max_sigma: interval.max_sigma.unwrap_or(f32::INFINITY),
        }
    }

    /// The weight of guidance as the model is told of it.
    pub(crate) fn told(&self, condition: GuidanceCondition) -> Vec<f32> {
        match condition {
            GuidanceCondition::Weight => vec![self.text_weight],
            GuidanceCondition::Embedding(width) => embedding(self.text_weight - 1.0, width),
        }
    }

    /// What the model is asked for at each step of `sampler`. `plan` makes a plan of guidance at all steps; a model that
    /// `is_told` of guidance is asked once a step.
    pub(crate) fn plan(
        &self,
        sampler: &Sampler,
        is_told: bool,
        plan: impl FnOnce(Guidance) -> Result<Plan, GuidanceError>,
    ) -> Result<Plan, GuidanceError> {
        let ratio = self.interleave_ratio;
        let strategy = match self.strategy {
            GuidanceStrategy::Unspecified | GuidanceStrategy::Interleaved => {
                let draw = match self.interleave_draw {
                    InterleaveDraw::Unspecified | InterleaveDraw::Random => Draw::Random,
                    InterleaveDraw::LowDiscrepancy => Draw::LowDiscrepancy,
                };
                Strategy::Interleaved { ratio, draw }
            }
            GuidanceStrategy::Weighted => Strategy::Weighted { ratio },
            GuidanceStrategy::Joint => Strategy::Joint,
        };
        let (text_weight, neighbour_weight) = (self.text_weight, self.neighbour_weight);
        let guided: Range<usize> = sampler.evaluations_between(self.min_sigma.into(), self.max_sigma.into());
        let guidance = Guidance { strategy, text_weight, neighbour_weight };
        let plan = plan(if is_told { Guidance::OFF } else { guidance })?;
        plan.only_in(guided).rescaled(self.rescale)
    }
}

/// The sine and cosine embedding of 1000 `w` (Luo et al., 2023, latent consistency models, after the timestep embedding of
/// Vaswani et al., 2017): sines, then cosines, of frequencies from 1 down to 1 / 10,000.
fn embedding(w: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    let step = 10_000_f32.ln() / (half.max(2) - 1) as f32;
    let angles: Vec<f32> = (0..half).map(|i| 1000.0 * w * (-step * i as f32).exp()).collect();
    let waves = angles.iter().map(|angle| angle.sin()).chain(angles.iter().map(|angle| angle.cos()));
    waves.chain(std::iter::repeat_n(0.0, width % 2)).collect()
}

impl From<Settled> for wire::Guidance {
    fn from(settled: Settled) -> Self {
        Self {
            strategy: settled.strategy.into(),
            text_weight: Some(settled.text_weight),
            neighbour_weight: Some(settled.neighbour_weight),
            interleave_ratio: Some(settled.interleave_ratio),
            rescale: Some(settled.rescale),
            interleave_draw: settled.interleave_draw.into(),
            interval: Some(GuidanceInterval {
                min_sigma: Some(settled.min_sigma),
                max_sigma: Some(settled.max_sigma),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_embedded_as_timesteps_are() {
        // Angles 1 and 1 / 10,000.
        let expected = [1_f32.sin(), 1e-4_f32.sin(), 1_f32.cos(), 1e-4_f32.cos()];
        for width in [4, 5] {
            let embedded = embedding(0.001, width);
            assert_eq!(embedded.len(), width);
            let padding = [0.0];
            let expected = expected.iter().chain(&padding);
            assert!(
                embedded.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-6),
                "{embedded:?}"
            );
        }
    }
}
