//! Requests to values: whatever is wrong with a field is named.

use reverie_imaging::fit::{Fit, Reader};
use reverie_imaging::pictures::Rgb;
use reverie_imaging::{Encoded, pool};
use reverie_packages::TokenizedText;
use reverie_packages::tokenizer::Overflow;
use reverie_proto::encoder::v1::{EmbedImageRequest, EncodeTextRequest};
use reverie_proto::limits::MAX_TEXT_BYTES;
use reverie_service_kit::Violations;
use tonic::Status;

use crate::text_encoder::TextEncoder;
use crate::text_model::TextModel;

const MAX_TEXTS: usize = 16;
const MAX_IMAGES: usize = 64;

/// Checks and tokenizes prompts. Blocks. An empty one is what guidance moves away from.
pub(crate) fn prompts(
    message: &EncodeTextRequest,
    encoder: &TextEncoder,
) -> Result<Vec<Vec<TokenizedText>>, Status> {
    each(&message.texts, |violations, field, text| {
        let text = if text.is_empty() { String::new() } else { violations.text(field, text, MAX_TEXT_BYTES) };
        let tokens = if message.cut {
            // No writer is there who could mend it.
            encoder.tokenize(&text, Overflow::Cut).or_else(|_| encoder.tokenize("", Overflow::Cut))
        } else {
            encoder.tokenize(&text, Overflow::Refuse)
        };
        violations.take(field, tokens)
    })
}

/// Checks and tokenizes texts to search for. Blocks.
pub(crate) fn queries(texts: &[String], model: &TextModel) -> Result<Vec<TokenizedText>, Status> {
    each(texts, |violations, field, text| {
        let text = violations.text(field, text, MAX_TEXT_BYTES);
        violations.take(field, model.tokenize(&text, Overflow::Cut))
    })
}

fn each<T>(
    texts: &[String],
    convert: impl Fn(&mut Violations, &str, &str) -> Option<T>,
) -> Result<Vec<T>, Status> {
    let mut violations = Violations::new();
    violations.require(
        (1..=MAX_TEXTS).contains(&texts.len()),
        "texts",
        format!("must be 1 to {MAX_TEXTS} texts"),
    );
    let mut converted = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate().take(MAX_TEXTS) {
        converted.extend(convert(&mut violations, &format!("texts[{index}]"), text));
    }
    violations.into_result()?;
    Ok(converted)
}

/// Checks and decodes pictures, one after the other: each is what the model sees of it before the next is decoded.
pub(crate) async fn images(request: EmbedImageRequest, reader: Reader) -> Result<Vec<Rgb>, Status> {
    let EmbedImageRequest { images, fit } = request;
    let mut violations = Violations::new();
    violations.require(
        (1..=MAX_IMAGES).contains(&images.len()),
        "images",
        format!("must be 1 to {MAX_IMAGES} pictures"),
    );
    let fit = violations.take("fit", Fit::from_message(fit)).unwrap_or_default();
    let field = |index: usize| format!("images[{index}]");
    let mut opened = Vec::with_capacity(images.len());
    for (index, image) in images.iter().enumerate().take(MAX_IMAGES) {
        opened.extend(violations.take(field(index), Encoded::read(image)));
    }
    violations.into_result()?;
    drop(images);
    let _turn = pool::turn(opened.iter().map(|image| image.size().pixels()).sum()).await;
    let mut violations = Violations::new();
    let mut squares = Vec::with_capacity(opened.len());
    for (index, image) in opened.into_iter().enumerate() {
        let square = pool::decode(image, move |picture| reader.square(picture, fit)).await;
        squares.extend(violations.take(field(index), square));
    }
    violations.into_result()?;
    Ok(squares)
}
