//! The caller's own picture for a model that works on latents.

use reverie_imaging::initial::{Initial, Start};
use reverie_imaging::pictures;
use reverie_proto::autoencoder::v1::{EncodeRequest, EncodeResponse};
use reverie_proto::denoiser::v1::{InitialLatent, LatentModel};
use reverie_proto::diffusion::v1::StageTimings;
use reverie_proto::sizes::Size;
use reverie_proto::tensors;
use reverie_service_kit::{Context, Refusal};
use tonic::Status;

use crate::fields::Fields;
use crate::stages::Stages;

/// A latent to start from, and what it took to get it.
pub(crate) struct Encoded {
    pub(crate) initial: InitialLatent,
    /// Of the answer with the latent itself.
    pub(crate) answer: EncodeResponse,
}

/// Encodes the picture at `size`, and for a model that paints into it also without what its mask sets.
pub(crate) async fn encode(
    initial: &Initial,
    size: Size,
    model: &LatentModel,
    stages: &Stages,
    context: Context,
    fields: &Fields,
) -> Result<Encoded, Status> {
    let told = |field: &str| fields.autoencoder(field);
    let missing = || Refusal::internal("the initial picture was not brought to the size to draw");
    let Start { picture, mask } = initial.at(size).ok_or_else(missing)?;
    let request = EncodeRequest { image: Some(pictures::raw(picture.clone())), mask: None };
    let masked = mask
        .as_ref()
        .filter(|_| model.paints_into_picture)
        .map(|mask| EncodeRequest { mask: Some(pictures::raw(mask.to_picture())), ..request.clone() });
    let encode_masked = async {
        match masked {
            None => Ok(None),
            Some(request) => stages.encode_picture(context, request, told).await.map(Some),
        }
    };
    let (mut answer, masked) =
        tokio::try_join!(stages.encode_picture(context, request, told), encode_masked)?;
    let masked_latent = masked.and_then(|masked| {
        answer.timings = answer.timings.zip(masked.timings).map(sum);
        masked.latent
    });
    let downscale = model.downscale.max(1);
    let latent_size = Size { width: size.width / downscale, height: size.height / downscale };
    let mask = mask.as_ref().map(|mask| {
        let mask = mask.sampled(latent_size);
        let values: Vec<f32> = mask.drawn().iter().map(|drawn| f32::from(u8::from(*drawn))).collect();
        tensors::from_f32(&[latent_size.height as usize, latent_size.width as usize], &values)
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
        rows: one.rows + other.rows,
    }
}
