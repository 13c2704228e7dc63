//! Samplers by the names of packages.

use reverie_import::SamplerKind;
use reverie_proto::denoiser::v1::Sampler;

/// As a request names it.
pub fn message(kind: SamplerKind) -> Sampler {
    match kind {
        SamplerKind::Ddim => Sampler::Ddim,
        SamplerKind::Ddpm => Sampler::Ddpm,
        SamplerKind::Euler => Sampler::Euler,
        SamplerKind::EulerAncestral => Sampler::EulerAncestral,
        SamplerKind::Heun => Sampler::Heun,
        SamplerKind::DpmSolver => Sampler::DpmSolver,
        SamplerKind::DpmSolverSde => Sampler::DpmSolverSde,
        SamplerKind::UniPc => Sampler::Unipc,
        SamplerKind::Pndm => Sampler::Pndm,
        SamplerKind::Plms => Sampler::Plms,
        SamplerKind::Lcm => Sampler::Lcm,
    }
}
