//! Thresholding the predicted x0, so that large guidance weights do not saturate a picture.
//!
//! Saharia et al. 2022 (Imagen), section 2.3 and appendix D.1: static thresholding clips x0 to [-1, 1]; dynamic
//! thresholding clips it to its own p-quantile s and divides by s, when s > 1.

use serde::{Deserialize, Serialize};

/// The name of a thresholding in a model package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdingKind {
    /// Leave x0 alone: latent models.
    None,
    /// Clip x0 to [-1, 1].
    Static,
    /// Clip x0 to its own quantile and rescale.
    Dynamic,
}

/// How x0 is brought back into range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Thresholding {
    /// Leave x0 alone: latent models.
    None,
    /// Clip x0 to [-1, 1].
    Static,
    /// s = max(quantile(|x0|, `quantile`), 1), then x0 = clip(x0, -s, s) / s.
    Dynamic {
        /// p, in (0, 1]; Imagen 0.995, DeepFloyd IF 0.95. Linear interpolation between order statistics.
        quantile: f32,
        /// The largest s allowed, at least 1; 1 is plain clipping. Usually none.
        cap: Option<f32>,
    },
}

/// Why a thresholding is refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    /// The quantile is a probability above zero.
    #[error("threshold_quantile must be in (0, 1], not {0}")]
    Quantile(f32),
    /// The picture's own range is the smallest cap.
    #[error("threshold_cap must be at least 1, not {0}")]
    Cap(f32),
}

impl Thresholding {
    /// The thresholding a model package names; `quantile` matters to dynamic thresholding only.
    pub fn new(kind: ThresholdingKind, quantile: f32) -> Result<Self, ThresholdError> {
        let thresholding = match kind {
            ThresholdingKind::None => Self::None,
            ThresholdingKind::Static => Self::Static,
            ThresholdingKind::Dynamic => Self::Dynamic { quantile, cap: None },
        };
        thresholding.validate()?;
        Ok(thresholding)
    }

    pub(crate) fn validate(&self) -> Result<(), ThresholdError> {
        match *self {
            Self::Dynamic { quantile, .. } if !(quantile > 0.0 && quantile <= 1.0) => {
                Err(ThresholdError::Quantile(quantile))
            }
            Self::Dynamic { cap: Some(cap), .. } if cap.is_nan() || cap < 1.0 => {
                Err(ThresholdError::Cap(cap))
            }
            _ => Ok(()),
        }
    }
}

/// A thresholding with the working memory of its quantile.
#[derive(Debug, Clone)]
pub(crate) struct Thresholder {
    thresholding: Thresholding,
    /// Magnitudes as bits: non-negative floats sort as their bits do.
    magnitudes: Vec<u32>,
}

/// What a value of x0 is clipped to, and scaled by afterwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    bound: f32,
    scale: f32,
}

impl Range {
    /// Whether nothing is out of range.
    pub(crate) fn is_everything(self) -> bool {
        self.bound == f32::INFINITY
    }

    #[inline]
    pub(crate) fn bring(self, value: f32) -> f32 {
        value.clamp(-self.bound, self.bound) * self.scale
    }
}

impl Thresholder {
    /// A thresholder for the samples of one trajectory.
    pub(crate) fn new(thresholding: Thresholding) -> Result<Self, ThresholdError> {
        thresholding.validate()?;
        Ok(Self { thresholding, magnitudes: Vec::new() })
    }

    /// The range of one whole sample `x0`. Only dynamic thresholding looks at it.
    pub(crate) fn range(&mut self, x0: &[f32]) -> Range {
        match self.thresholding {
            Thresholding::None => Range { bound: f32::INFINITY, scale: 1.0 },
            Thresholding::Static => Range { bound: 1.0, scale: 1.0 },
            Thresholding::Dynamic { quantile, cap } => {
                let bound = self.magnitude_quantile(x0, quantile).max(1.0).min(cap.unwrap_or(f32::MAX));
                Range { bound, scale: 1.0 / bound }
            }
        }
    }

    /// Whether the range of a sample depends on the sample.
    pub(crate) fn is_dynamic(&self) -> bool {
        matches!(self.thresholding, Thresholding::Dynamic { .. })
    }

    /// Brings one whole sample `x0` back into range, in place.
    pub(crate) fn apply(&mut self, x0: &mut [f32]) {
        let range = self.range(x0);
        for value in x0 {
            *value = range.bring(*value);
        }
    }

    /// The p-quantile of |x0|, interpolated linearly between order statistics; O(n), and no allocation once the
    /// working memory has grown to the sample.
    fn magnitude_quantile(&mut self, x0: &[f32], p: f32) -> f32 {
        if x0.is_empty() {
            return 0.0;
        }
        self.magnitudes.clear();
        self.magnitudes.extend(x0.iter().map(|value| value.abs().to_bits()));
        let rank = f64::from(p) * (x0.len() - 1) as f64;
        let (_, &mut low, above) = self.magnitudes.select_nth_unstable(rank as usize);
        let high = above.iter().copied().min().unwrap_or(low);
        let (low, high) = (f64::from(f32::from_bits(low)), f64::from(f32::from_bits(high)));
        (low + (high - low) * rank.fract()) as f32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dynamic(quantile: f32, cap: Option<f32>) -> Thresholder {
        Thresholder::new(Thresholding::Dynamic { quantile, cap }).unwrap()
    }

    /// The definition, by sorting.
    fn quantile_by_sorting(x0: &[f32], p: f32) -> f32 {
        let mut sorted: Vec<f64> = x0.iter().map(|value| f64::from(value.abs())).collect();
        sorted.sort_by(f64::total_cmp);
        let rank = f64::from(p) * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
        (low + (high - low) * rank.fract()) as f32
    }

    #[test]
    fn names_are_those_of_model_packages() {
        let all = [ThresholdingKind::None, ThresholdingKind::Static, ThresholdingKind::Dynamic];
        assert_eq!(all.map(|kind| serde_json::to_value(kind).unwrap()), ["none", "static", "dynamic"]);
    }

    #[test]
    fn static_clips_and_none_does_not() {
        let values = [-3.0, -1.0, -0.25, 0.5, 1.5];
        let mut x0 = values;
        Thresholder::new(Thresholding::None).unwrap().apply(&mut x0);
        assert_eq!(x0, values);
        Thresholder::new(Thresholding::Static).unwrap().apply(&mut x0);
        assert_eq!(x0, [-1.0, -1.0, -0.25, 0.5, 1.0]);
    }

    #[test]
    fn dynamic_clips_to_its_quantile_and_rescales() {
        // |x0| sorted: 0, 1, 2, 4, 8; the 0.625-quantile lies half-way between 2 and 4.
        let mut x0 = [0.0, -1.0, 2.0, -4.0, 8.0];
        dynamic(0.625, None).apply(&mut x0);
        let third = 1.0 / 3.0;
        for (actual, expected) in x0.iter().zip([0.0, -third, 2.0 * third, -1.0, 1.0]) {
            assert!((actual - expected).abs() < 1e-6, "{x0:?}");
        }
    }

    #[test]
    fn dynamic_leaves_a_sample_in_range_untouched() {
        let mut x0 = [-0.5, 0.25, 1.0, -1.0];
        dynamic(0.995, None).apply(&mut x0);
        assert_eq!(x0, [-0.5, 0.25, 1.0, -1.0]);
    }

    #[test]
    fn a_cap_of_one_is_plain_clipping() {
        let mut x0 = [0.5, -4.0, 8.0];
        dynamic(1.0, Some(1.0)).apply(&mut x0);
        assert_eq!(x0, [0.5, -1.0, 1.0]);
    }

    #[test]
    fn bad_settings_are_refused() {
        for quantile in [0.0, -0.5, 1.01, f32::NAN] {
            assert!(Thresholding::new(ThresholdingKind::Dynamic, quantile).is_err());
        }
        let cap = Thresholding::Dynamic { quantile: 0.995, cap: Some(0.5) };
        assert_eq!(Thresholder::new(cap).unwrap_err(), ThresholdError::Cap(0.5));
    }

    proptest! {
        #[test]
        fn the_quantile_is_that_of_a_sort(
            x0 in prop::collection::vec(-20_f32..20.0, 1..300), p in 0.01_f32..=1.0,
        ) {
            let mut thresholder = dynamic(p, None);
            prop_assert_eq!(thresholder.magnitude_quantile(&x0, p), quantile_by_sorting(&x0, p));
            let mut bounded = x0.clone();
            thresholder.apply(&mut bounded);
            prop_assert!(bounded.iter().all(|value| value.abs() <= 1.0 + 1e-6));
        }
    }
}
