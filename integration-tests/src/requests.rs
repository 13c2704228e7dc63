//! Requests that are drawn quickly: what is tested is the way through the services, not the beauty of the picture.

use std::time::Duration;

use reverie::client::{self, Outcome};
use reverie_imaging::pictures::{self, PictureError};
use reverie_proto::diffusion::v1::{Sampler, Sampling};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, Retrieval, SuperResolutionOptions};
use reverie_service_kit::Address;
use tonic::Status;

/// Steps of the base model in a quick request.
pub const BASE_STEPS: u32 = 4;
/// Steps of each super-resolution level in a quick request.
const LEVEL_STEPS: u32 = 2;
/// How long a picture may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The samplers that fit the bundled base model, besides DDIM, with the evaluations that four steps take.
pub const OF_FOUR_STEPS: [(Sampler, usize); 9] = [
    (Sampler::Ddpm, 4),
    (Sampler::Euler, 4),
    (Sampler::EulerAncestral, 4),
    (Sampler::Heun, 7),
    (Sampler::Dpmpp2m, 4),
    (Sampler::Dpmpp2mSde, 4),
    (Sampler::Unipc, 4),
    (Sampler::Pndm, 13),
    (Sampler::Plms, 5),
];

/// A picture of `size` pixels in few steps, with the default neighbours.
pub fn quick(prompt: &str, size: u32, seed: u64) -> GenerateRequest {
    let level = SuperResolutionOptions { sampling: Some(steps(LEVEL_STEPS)), ..Default::default() };
    GenerateRequest {
        prompt: prompt.to_owned(),
        size: Some(size),
        seed: Some(seed),
        base_sampling: Some(steps(BASE_STEPS)),
        super_resolution: vec![level; 2],
        ..Default::default()
    }
}

/// The default sampler with another number of steps.
pub fn steps(steps: u32) -> Sampling {
    Sampling { steps: Some(steps), ..Default::default() }
}

/// K neighbours of the default knowledge base.
pub fn neighbours(k: u32) -> Memory {
    Memory::Retrieval(Retrieval { neighbours: Some(k), ..Default::default() })
}

/// Asks the pipeline at `address` and waits for the picture.
pub async fn draw(address: &Address, request: GenerateRequest) -> Result<Outcome, Status> {
    client::ask(address, request, PATIENCE, |_| ()).await
}

/// Width and height of the picture, as its bytes say.
pub fn dimensions(outcome: &Outcome) -> Result<(u32, u32), PictureError> {
    pictures::decode(&outcome.image).map(|picture| picture.dimensions())
}

/// Identifiers of the neighbours, best first.
pub fn neighbour_ids(outcome: &Outcome) -> Vec<&str> {
    outcome.neighbours.neighbours.iter().map(|neighbour| neighbour.id.as_str()).collect()
}
