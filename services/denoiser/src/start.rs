//! What a trajectory starts from besides noise: the caller's own picture, or its latent.

use reverie_diffusion::InitialSample;
use reverie_imaging::initial::{self, InitialError, Opened, default_strength};
use reverie_imaging::pictures;
use reverie_proto::denoiser::v1::{DenoiseRequest, InitialLatent};
use reverie_proto::limits::is_strength;
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Latent, Tensor};
use reverie_proto::tensors::{TensorError, to_f32_of_shape};
use reverie_service_kit::{Refusal, Violations};

use crate::facts::{Facts, Frame};

/// What a trajectory starts from besides noise.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) sample: Option<InitialSample>,
    /// The picture that becomes the sample, not yet decoded.
    picture: Option<Opened>,
    /// The share of the steps that are taken.
    pub(crate) strength: f64,
    /// What a model that paints into a picture sees besides x: mask and masked latent.
    pub(crate) painted_into: Vec<f32>,
}

/// Refuses latents for another decoder than the model's.
pub(crate) fn check_decoder(request: &DenoiseRequest, facts: &Facts) -> Result<(), Refusal> {
    let Some((model, initial)) = facts.diffusion.latent.as_ref().zip(request.initial_latent.as_ref()) else {
        return Ok(());
    };
    let mut latents = initial.latent.iter().chain(&initial.masked_latent);
    match latents.find(|latent| latent.decoder_digest != model.decoder) {
        None => Ok(()),
        Some(latent) => Err(Refusal::mismatch(format!(
            "the latent is for the decoder {:?}, the model's latents are for {}: deploy one bundle everywhere",
            latent.decoder_digest, model.decoder
        ))),
    }
}

/// Reads the latent that a request starts from, or opens the picture.
pub(crate) fn of(
    violations: &mut Violations,
    request: &DenoiseRequest,
    facts: &Facts,
    frame: Frame,
) -> Start {
    let none = Start { sample: None, picture: None, strength: 1.0, painted_into: Vec::new() };
    let works_on_latents = facts.diffusion.latent.is_some();
    violations.require(
        request.initial.is_none() || !works_on_latents,
        "initial",
        "is for models that work on pixels; this one takes initial_latent",
    );
    violations.require(
        request.initial_latent.is_none() || works_on_latents,
        "initial_latent",
        "is for models that work on latents; this one takes initial",
    );
    violations.require(
        request.initial_latent.is_some() || !facts.paints_into_picture,
        "initial_latent",
        "is missing: this model paints into a picture",
    );
    if let Some(initial) = request.initial.as_ref().filter(|_| !works_on_latents) {
        match violations.take_all(Opened::read(initial), field) {
            Some(picture) => Start { strength: picture.strength(), picture: Some(picture), ..none },
            None => none,
        }
    } else if let Some(initial) = request.initial_latent.as_ref().filter(|_| works_on_latents) {
        of_latent(violations, initial, facts, frame)
    } else {
        none
    }
}

/// The field of the request that is wrong.
pub(crate) fn field(error: &InitialError) -> String {
    format!("initial.{}", error.field())
}

impl Start {
    /// Decodes the picture and its mask, if there is one, at `size`, which is that of the picture to draw.
    pub(crate) async fn decode(&mut self, size: Size) -> Result<(), InitialError> {
        let Some(picture) = self.picture.take() else { return Ok(()) };
        let initial = picture.bring_to(vec![size]).await?;
        self.sample = initial.at(size).map(|initial::Start { picture, mask }| {
            let sample = InitialSample::new(pictures::to_planes(picture));
            match mask {
                Some(mask) => sample.with_mask(mask.drawn().to_vec()),
                None => sample,
            }
        });
        Ok(())
    }
}

fn of_latent(violations: &mut Violations, initial: &InitialLatent, facts: &Facts, frame: Frame) -> Start {
    let [_, height, width] = frame.sample;
    let latent = latent(violations, "initial_latent.latent", initial.latent.as_ref(), frame);
    let mask = initial
        .mask
        .as_ref()
        .and_then(|mask| violations.take("initial_latent.mask", to_f32_of_shape(mask, &[height, width])));
    let strength = initial.strength.unwrap_or(default_strength(initial.mask.is_some()));
    violations.require(
        is_strength(strength),
        "initial_latent.strength",
        format!("must be above 0 and at most 1, not {strength}"),
    );
    let mut painted_into = Vec::new();
    if facts.paints_into_picture {
        violations.require(
            initial.mask.is_some(),
            "initial_latent.mask",
            "is missing: this model paints into a picture",
        );
        let masked = initial.masked_latent.as_ref();
        let masked = self::latent(violations, "initial_latent.masked_latent", masked, frame);
        painted_into.extend(mask.iter().chain(&masked).flatten());
    }
    let sample = latent.map(InitialSample::new).and_then(|sample| match mask {
        // A model that sees what is kept keeps it by itself.
        Some(_) if facts.paints_into_picture => (strength < 1.0).then_some(sample),
        Some(mask) => Some(sample.with_mask(mask.iter().map(|drawn| *drawn >= 0.5).collect())),
        None => Some(sample),
    });
    Start { sample, picture: None, strength, painted_into }
}

fn latent(
    violations: &mut Violations,
    field: &str,
    latent: Option<&Latent>,
    frame: Frame,
) -> Option<Vec<f32>> {
    let values: Result<Vec<f32>, TensorError> = to_f32_of_shape(
        latent.and_then(|latent| latent.values.as_ref()).unwrap_or(&Tensor::default()),
        &frame.sample,
    );
    violations.take(field, values)
}
