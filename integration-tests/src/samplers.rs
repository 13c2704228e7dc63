//! Samplers by the names of packages.

use reverie_import::SamplerKind;
use reverie_proto::diffusion::v1::Sampler;
use reverie_proto::names::Named as _;

/// As a request names it.
///
/// # Panics
/// When the contract has no sampler of this name.
#[expect(clippy::expect_used, reason = "a sampler that requests cannot name is a defect")]
pub fn message(kind: SamplerKind) -> Sampler {
    Sampler::named(kind.name()).expect("the contract has every sampler")
}
