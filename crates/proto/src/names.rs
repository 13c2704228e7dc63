//! Enum values by the names that people and files write: in lower case, without the prefix of their enum.

use crate::diffusion::v1::{GuidanceStrategy, NoiseLevels, Sampler, Thresholding};
use crate::generation::v1::Stage;
use crate::knowledge::v1::{NoMatch, RetrievalStrategy};
use crate::tensor::v1::Fit;

/// An enum of the contracts whose values have names: `SAMPLER_EULER_ANCESTRAL` is `euler_ancestral`.
pub trait Named: Copy + TryFrom<i32> {
    /// The value's name.
    fn name(self) -> String;

    /// All values but the unspecified one, in the contract's order.
    fn all() -> Vec<Self> {
        (1..).map_while(|number| Self::try_from(number).ok()).collect()
    }

    /// The value with this name; never the unspecified one.
    fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|value| value.name() == name)
    }
}

macro_rules! named {
    ($($enum:ty: $prefix:literal;)*) => {$(
        impl Named for $enum {
            fn name(self) -> String {
                self.as_str_name().trim_start_matches($prefix).to_ascii_lowercase()
            }
        }
    )*};
}

named! {
    Fit: "FIT_";
    GuidanceStrategy: "GUIDANCE_STRATEGY_";
    NoMatch: "NO_MATCH_";
    NoiseLevels: "NOISE_LEVELS_";
    RetrievalStrategy: "RETRIEVAL_STRATEGY_";
    Sampler: "SAMPLER_";
    Stage: "STAGE_";
    Thresholding: "THRESHOLDING_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_by_its_name() {
        assert_eq!(Sampler::Dpmpp2mSde.name(), "dpmpp_2m_sde");
        assert_eq!(Sampler::all().len(), 11);
        for sampler in Sampler::all() {
            assert_eq!(Sampler::named(&sampler.name()), Some(sampler));
        }
        assert_eq!(Fit::all(), [Fit::Crop, Fit::Pad]);
        for unknown in ["unspecified", "DDIM", "sampler_ddim", ""] {
            assert_eq!(Sampler::named(unknown), None, "{unknown}");
        }
    }
}
