//! What a model is to its callers: its identity, and the calls that are for another one.

use reverie_packages::package::{Defaults, DiffusionFacts};
use reverie_packages::{Package, PackageError};
use reverie_proto::diffusion::v1 as wire;
use reverie_proto::tensor::v1::TextTokens;
use reverie_service_kit::Refusal;

/// The model's name and digest for answers.
pub fn identity(package: &Package) -> wire::ModelIdentity {
    wire::ModelIdentity {
        name: package.manifest.name.clone(),
        version: package.manifest.version.clone(),
        digest: package.digest(),
    }
}

/// Refuses a call that was made for another model than this one; "" is a caller that does not care.
pub fn check_model(expected: &str, model: &wire::ModelIdentity) -> Result<(), Refusal> {
    if expected.is_empty() || expected == model.digest {
        return Ok(());
    }
    let wire::ModelIdentity { name, digest, .. } = model;
    Err(Refusal::model_changed(format!("the call is for the model {expected}, this one is {name}, {digest}")))
}

/// Refuses texts of another encoder than the model was trained with. This comes before their extents: those of another encoder
/// are no mistake of the caller's.
pub fn check_encoder<'a>(
    texts: impl IntoIterator<Item = &'a TextTokens>,
    encoder: &str,
) -> Result<(), Refusal> {
    match texts.into_iter().find(|text| text.encoder_digest != encoder) {
        None => Ok(()),
        Some(text) => Err(Refusal::mismatch(format!(
            "the text was encoded by {:?}, the model was trained with {encoder}: deploy one bundle everywhere",
            text.encoder_digest
        ))),
    }
}

/// The diffusion facts and defaults of a package that must have both.
pub fn facts(package: &Package) -> Result<(DiffusionFacts, Defaults), PackageError> {
    Ok((package.diffusion()?.clone(), package.defaults()?.clone()))
}
