//! The guidance that a request asks for, checked, with the model's defaults for what it leaves open.

use std::ops::Range;

use reverie_diffusion::Sampler;
use reverie_diffusion::guidance::{Draw, Guidance, GuidanceError, Plan, Strategy};
use reverie_inference::package::Defaults;
use reverie_proto::denoiser::v1::{self as wire, GuidanceInterval, GuidanceStrategy};
use reverie_service_kit::Violations;

const MIN_WEIGHT: f32 = 1.0;
const MAX_WEIGHT: f32 = 50.0;
const DEFAULT_INTERLEAVE_RATIO: f32 = 0.5;

/// Guidance with every value set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settled {
    strategy: GuidanceStrategy,
    text_weight: f32,
    neighbour_weight: f32,
    interleave_ratio: f32,
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
        let mut weight = |field, value, default: Option<f32>| {
            violations.in_range(field, value, default.unwrap_or(MIN_WEIGHT), MIN_WEIGHT, MAX_WEIGHT)
        };
        let text_weight = weight("guidance.text_weight", asked.text_weight, defaults.text_weight);
        let neighbour_weight =
            weight("guidance.neighbour_weight", asked.neighbour_weight, defaults.neighbour_weight);
        let mut share = |field, value, default| violations.in_range(field, value, default, 0.0_f32, 1.0);
        let default_ratio = defaults.interleave_ratio.unwrap_or(DEFAULT_INTERLEAVE_RATIO);
        let interleave_ratio = share("guidance.interleave_ratio", asked.interleave_ratio, default_ratio);
        let rescale = share("guidance.rescale", asked.rescale, 0.0);
        let interval = asked.interval.unwrap_or_default();
        let mut sigma =
            |field, value, default, least| violations.in_range(field, value, default, least, f32::INFINITY);
        let min_sigma = sigma("guidance.interval.min_sigma", interval.min_sigma, 0.0, 0.0);
        let max_sigma = sigma("guidance.interval.max_sigma", interval.max_sigma, f32::INFINITY, min_sigma);
        let strategy = match GuidanceStrategy::try_from(asked.strategy) {
            Ok(GuidanceStrategy::Unspecified) => GuidanceStrategy::Interleaved,
            Ok(strategy) => strategy,
            Err(_) => {
                let unknown = format!("{} is no strategy that is known here", asked.strategy);
                violations.add("guidance.strategy", unknown);
                GuidanceStrategy::Interleaved
            }
        };
        Self { strategy, text_weight, neighbour_weight, interleave_ratio, rescale, min_sigma, max_sigma }
    }

    /// What the model is asked for at each step of `sampler`. `plan` makes a plan of guidance at all steps.
    pub(crate) fn plan(
        &self,
        sampler: &Sampler,
        plan: impl FnOnce(Guidance) -> Result<Plan, GuidanceError>,
    ) -> Result<Plan, GuidanceError> {
        let ratio = self.interleave_ratio;
        let strategy = match self.strategy {
            GuidanceStrategy::Unspecified | GuidanceStrategy::Interleaved => {
                Strategy::Interleaved { ratio, draw: Draw::Random }
            }
            GuidanceStrategy::Weighted => Strategy::Weighted { ratio },
            GuidanceStrategy::Joint => Strategy::Joint,
        };
        let (text_weight, neighbour_weight) = (self.text_weight, self.neighbour_weight);
        let guided: Range<usize> = sampler.evaluations_between(self.min_sigma.into(), self.max_sigma.into());
        let plan = plan(Guidance { strategy, text_weight, neighbour_weight })?;
        plan.only_in(guided).rescaled(self.rescale)
    }
}

impl From<Settled> for wire::Guidance {
    fn from(settled: Settled) -> Self {
        Self {
            strategy: settled.strategy.into(),
            text_weight: Some(settled.text_weight),
            neighbour_weight: Some(settled.neighbour_weight),
            interleave_ratio: Some(settled.interleave_ratio),
            rescale: Some(settled.rescale),
            interval: Some(GuidanceInterval {
                min_sigma: Some(settled.min_sigma),
                max_sigma: Some(settled.max_sigma),
            }),
        }
    }
}
