//! The caller's own picture for a model that works on latents.

use std::sync::Arc;

use reverie_proto::autoencoder::v1::{EncodeRequest, EncodeResponse};
use reverie_proto::denoiser::v1::{InitialLatent, LatentModel, StageTimings};
use reverie_proto::initial::Initial;
use reverie_proto::pictures;
use reverie_proto::tensors;
use reverie_service_kit::{Context, Refusal};
use tonic::Status;

use crate::stages::Stages;

/// A latent to start from, and what it took to get it.
pub(crate) struct Encoded {
    pub(crate) initial: InitialLatent,
    /// Of the answer with the latent itself.
    pub(crate) answer: EncodeResponse,
}

/// Encodes the picture at `side` x `side` pixels, and for a model that paints into it also without what its mask sets.
pub(crate) async fn encode(
    initial: &Arc<Initial>,
    side: u32,
    model: &LatentModel,
    stages: &Stages,
    context: Context,
) -> Result<Encoded, Status> {
    let own = Arc::clone(initial);
    let resize = move || {
        let mask = own.mask.as_ref().map(|mask| mask.resized(side));
        (pictures::raw(own.picture_at(side)), mask)
    };
    let (image, mask) = tokio::task::spawn_blocking(resize).await.map_err(Refusal::internal)?;
    let request = EncodeRequest { image: Some(image), mask: None };
    let masked = mask
        .as_ref()
        .filter(|_| model.paints_into_picture)
        .map(|mask| EncodeRequest { mask: Some(pictures::raw(mask.to_picture())), ..request.clone() });
    let mut answer = stages.encode_picture(context, request).await?;
    let masked_latent = match masked {
        None => None,
        Some(request) => {
            let masked = stages.encode_picture(context, request).await?;
            answer.timings = answer.timings.zip(masked.timings).map(sum);
            masked.latent
        }
    };
    let latent_side = side / model.downscale.max(1);
    let mask = mask.map(|mask| {
        let mask = mask.sampled(latent_side);
        let values: Vec<f32> = mask.drawn().iter().map(|drawn| f32::from(u8::from(*drawn))).collect();
        tensors::from_f32(&[latent_side as usize; 2], &values)
    });
    let strength = Some(initial.strength);
    let initial = InitialLatent { latent: answer.latent.take(), strength, mask, masked_latent };
    Ok(Encoded { initial, answer })
}

fn sum((one, other): (StageTimings, StageTimings)) -> StageTimings {
    StageTimings {
        queue_seconds: one.queue_seconds + other.queue_seconds,
        compute_seconds: one.compute_seconds + other.compute_seconds,
        model_seconds: one.model_seconds + other.model_seconds,
    }
}
