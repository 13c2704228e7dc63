//! Requests to values: whatever is wrong with a field is named.

use reverie_inference::TokenizedText;
use reverie_inference::tokenizer::Overflow;
use reverie_proto::pictures::{self, Rgb};
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::Violations;
use tonic::Status;

use crate::text_model::TextModel;

const MAX_TEXTS: usize = 16;
const MAX_TEXT_BYTES: usize = 2000;
const MAX_IMAGES: usize = 64;

/// Checks and tokenizes texts. Blocks.
pub(crate) fn texts(
    texts: &[String],
    model: &TextModel,
    overflow: Overflow,
) -> Result<Vec<TokenizedText>, Status> {
    let mut violations = Violations::new();
    violations.require(
        (1..=MAX_TEXTS).contains(&texts.len()),
        "texts",
        format!("must be 1 to {MAX_TEXTS} texts"),
    );
    let mut tokenized = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate().take(MAX_TEXTS) {
        let field = format!("texts[{index}]");
        let text = violations.text(&field, text, MAX_TEXT_BYTES);
        tokenized.extend(violations.take(&field, model.tokenize(&text, overflow)));
    }
    violations.into_result()?;
    Ok(tokenized)
}

/// Checks and decodes pictures. Blocks.
pub(crate) fn images(images: &[Image]) -> Result<Vec<Rgb>, Status> {
    let mut violations = Violations::new();
    violations.require(
        (1..=MAX_IMAGES).contains(&images.len()),
        "images",
        format!("must be 1 to {MAX_IMAGES} pictures"),
    );
    let mut decoded = Vec::with_capacity(images.len());
    for (index, image) in images.iter().enumerate().take(MAX_IMAGES) {
        decoded.extend(violations.take(format!("images[{index}]"), pictures::decode(image)));
    }
    violations.into_result()?;
    Ok(decoded)
}
