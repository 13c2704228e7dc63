//! The ranges that the contracts give for guidance and sampling, checked in one place: by the pipeline before any stage works, and by
//! the stages, whose models may allow less.

use reverie_proto::diffusion::v1::{
    Guidance, GuidanceInterval, GuidanceStrategy, InterleaveDraw, NoiseLevels, Sampler, Sampling,
    Thresholding,
};
use reverie_proto::limits::{GUIDANCE_WEIGHT, SHARE, STEPS};

use crate::Violations;

/// Checks the field `guidance` of a request, and gives what of it is right.
pub fn guidance(violations: &mut Violations, asked: &Guidance) -> Guidance {
    let mut weight = |field, value| violations.in_range(field, value, GUIDANCE_WEIGHT);
    let text_weight = weight("guidance.text_weight", asked.text_weight);
    let neighbour_weight = weight("guidance.neighbour_weight", asked.neighbour_weight);
    let interleave_ratio = violations.in_range("guidance.interleave_ratio", asked.interleave_ratio, SHARE);
    let rescale = violations.in_range("guidance.rescale", asked.rescale, SHARE);
    let interval = asked.interval.unwrap_or_default();
    let mut sigma = |field, value, least| violations.in_range(field, value, least..=f32::INFINITY);
    let min_sigma = sigma("guidance.interval.min_sigma", interval.min_sigma, 0.0);
    let max_sigma = sigma("guidance.interval.max_sigma", interval.max_sigma, min_sigma.unwrap_or(0.0));
    Guidance {
        strategy: known::<GuidanceStrategy>(violations, "guidance.strategy", asked.strategy),
        text_weight,
        neighbour_weight,
        interleave_ratio,
        rescale,
        interval: asked.interval.map(|_| GuidanceInterval { min_sigma, max_sigma }),
        interleave_draw: known::<InterleaveDraw>(
            violations,
            "guidance.interleave_draw",
            asked.interleave_draw,
        ),
    }
}

/// Checks the sampling in `field` of a request, and gives what of it is right.
pub fn sampling(violations: &mut Violations, field: &str, asked: &Sampling) -> Sampling {
    let field = |name: &str| format!("{field}.{name}");
    Sampling {
        sampler: known::<Sampler>(violations, &field("sampler"), asked.sampler),
        steps: violations.in_range(&field("steps"), asked.steps, STEPS),
        ddim_eta: violations.in_range(&field("ddim_eta"), asked.ddim_eta, SHARE),
        thresholding: known::<Thresholding>(violations, &field("thresholding"), asked.thresholding),
        noise_levels: known::<NoiseLevels>(violations, &field("noise_levels"), asked.noise_levels),
    }
}

/// Checks the number of an enum's value, and gives it, or that of the unspecified one.
pub fn known<E: TryFrom<i32>>(violations: &mut Violations, field: &str, number: i32) -> i32 {
    let is_known = E::try_from(number).is_ok();
    violations.require(is_known, field, format!("unknown value {number}"));
    if is_known { number } else { 0 }
}
