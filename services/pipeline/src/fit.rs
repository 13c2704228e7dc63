//! Whether the models of the stages belong together. Where they do not, no picture can be drawn until an operator mends it.

use reverie_service_kit::Refusal;

use crate::stages::Models;

/// The models of the stages that only read what others give.
#[derive(Debug)]
pub(crate) struct Identities {
    pub(crate) text_encoder: String,
    /// Of latents; none where there is no autoencoder.
    pub(crate) decoder: Option<String>,
}

/// Whether each stage starts from what the one before it draws.
pub(crate) fn check_cascade(models: &Models, has_autoencoder: bool) -> Result<(), Refusal> {
    let Models { base, levels, .. } = models;
    if base.latent.is_some() && !has_autoencoder {
        return Err(Refusal::mismatch(format!(
            "the model {} outputs latents but no autoencoder is configured: set stages.autoencoder",
            base.model.as_ref().map_or("", |model| model.name.as_str())
        )));
    }
    let sides = [base.image_size].into_iter().chain(levels.iter().map(|level| level.side));
    match sides.zip(levels).find(|(drawn, level)| *drawn != level.low_side) {
        None => check_bundles(models),
        Some((drawn, level)) => Err(Refusal::mismatch(format!(
            "the levels of the cascade do not follow each other: one draws {drawn} px, the next starts from {} px: deploy one \
             bundle everywhere",
            level.low_side
        ))),
    }
}

/// Whether all that draw are of one bundle, as far as they say. A rollout of another one gets over it.
fn check_bundles(models: &Models) -> Result<(), Refusal> {
    let bundles = models.levels.iter().map(|level| &level.bundle_digest).chain([&models.base.bundle_digest]);
    let mut known = bundles.filter(|digest| !digest.is_empty());
    let Some(first) = known.next() else { return Ok(()) };
    match known.find(|digest| *digest != first) {
        None => Ok(()),
        Some(other) => Err(Refusal::unavailable(format!(
            "the base model and the super-resolution levels are of different bundles ({other} and {first}): deploy one bundle everywhere, \
             or wait for a rollout to end"
        ))),
    }
}

/// Whether the models were trained with the encoder and for the decoder that are there. A picture that meets others is refused by
/// the stage that meets them; this is for health.
pub(crate) fn check_identities(models: &Models, identities: &Identities) -> Result<(), Refusal> {
    let differs = |what: &str, who: &str, wanted: &str, found: &str| {
        Refusal::mismatch(format!(
            "the {who} was trained with the {what} {wanted}, the {what} here is {found}: deploy one bundle everywhere"
        ))
    };
    let encoder = &identities.text_encoder;
    let wanted = [("denoiser", &models.base.text_encoder_digest)].into_iter();
    let levels = models.levels.iter().map(|level| ("super-resolution level", &level.text_encoder_digest));
    for (who, wanted) in wanted.chain(levels).filter(|(_, wanted)| !wanted.is_empty()) {
        if wanted != encoder {
            return Err(differs("text encoder", who, wanted, encoder));
        }
    }
    match models.base.latent.as_ref().zip(identities.decoder.as_ref()) {
        Some((latent, decoder)) if latent.decoder_digest != *decoder => {
            Err(differs("decoder of latents", "denoiser", &latent.decoder_digest, decoder))
        }
        _ => Ok(()),
    }
}
