//! What of guidance a model has no use for.

use reverie_proto::denoiser::v1::GetModelResponse;
use reverie_proto::diffusion::v1::{Guidance, GuidanceStrategy, InterleaveDraw};

const NO_NEIGHBOURS: &str = "must not be set: this model takes no neighbours";
const TOLD: &str = "must not be set: this model is told the weight of guidance, and draws in one pass what others guide in two";

/// The fields of `guidance` that are set and that `model` has no use for, each with the reason.
pub fn unfit_guidance(model: &GetModelResponse, guidance: &Guidance) -> Vec<(&'static str, &'static str)> {
    let Guidance { neighbour_weight, interleave_ratio, rescale, .. } = guidance;
    let has_strategy = guidance.strategy != i32::from(GuidanceStrategy::Unspecified);
    let has_draw = guidance.interleave_draw != i32::from(InterleaveDraw::Unspecified);
    let takes_none = model.max_neighbours == 0;
    let is_told = model.is_told_guidance;
    [
        (takes_none && has_strategy, "strategy", NO_NEIGHBOURS),
        (takes_none && neighbour_weight.is_some(), "neighbour_weight", NO_NEIGHBOURS),
        (takes_none && interleave_ratio.is_some(), "interleave_ratio", NO_NEIGHBOURS),
        (takes_none && has_draw, "interleave_draw", NO_NEIGHBOURS),
        (is_told && rescale.is_some(), "rescale", TOLD),
        (is_told && guidance.interval.is_some(), "interval", TOLD),
    ]
    .into_iter()
    .filter_map(|(is_unfit, field, why)| is_unfit.then_some((field, why)))
    .collect()
}

/// Why `model` takes no negative prompt, if it takes none.
pub fn unfit_negative_prompt(model: &GetModelResponse) -> Option<&'static str> {
    model.is_told_guidance.then_some(TOLD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reverie_proto::diffusion::v1::GuidanceInterval;

    fn everything() -> Guidance {
        Guidance {
            strategy: GuidanceStrategy::Joint.into(),
            text_weight: Some(2.0),
            neighbour_weight: Some(1.0),
            interleave_ratio: Some(0.5),
            rescale: Some(0.0),
            interval: Some(GuidanceInterval::default()),
            interleave_draw: InterleaveDraw::Random.into(),
        }
    }

    #[test]
    fn what_is_set_and_of_no_use_is_named() {
        let fields = |max_neighbours, is_told_guidance, guidance: &Guidance| {
            let model = GetModelResponse { max_neighbours, is_told_guidance, ..GetModelResponse::default() };
            unfit_guidance(&model, guidance).into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        let of_neighbours = ["strategy", "neighbour_weight", "interleave_ratio", "interleave_draw"];
        assert_eq!(fields(0, false, &everything()), of_neighbours);
        assert_eq!(fields(8, true, &everything()), ["rescale", "interval"]);
        assert!(fields(8, false, &everything()).is_empty());
        // What is not set is not asked for.
        let weight = Guidance { text_weight: Some(3.0), ..Guidance::default() };
        assert!(fields(0, true, &weight).is_empty());
    }
}
