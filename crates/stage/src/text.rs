//! Encoded texts as a model takes them: what its rows with text see, and what those without.

use reverie_diffusion::guidance::Condition;
use reverie_packages::package::{TextCondition, WithoutText};
use reverie_proto::tensor::v1::TextTokens;
use reverie_proto::tensors::EncodedText;
use reverie_service_kit::Violations;

/// A text, as a model takes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    /// f32 `[max_tokens, dim]`.
    pub tokens: Vec<f32>,
    /// f32 `[max_tokens]`, 1 for a real token.
    pub mask: Vec<f32>,
    /// f32 `[pooled_dim]`.
    pub pooled: Vec<f32>,
}

impl Text {
    /// A text of the size that a model takes, with zeros for its features, to measure what a row costs.
    pub fn blank(wanted: &TextCondition) -> Self {
        Self {
            tokens: vec![0.0; wanted.max_tokens * wanted.dim],
            mask: vec![1.0; wanted.max_tokens],
            pooled: vec![0.0; wanted.pooled_dim.unwrap_or(0)],
        }
    }
}

/// The texts of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Texts {
    /// What rows with text see.
    pub with: Text,
    /// What rows without text see: the negative prompt, or what the model takes for no text.
    pub without: Text,
}

impl Texts {
    /// Reads the fields `text` and `negative_text` of a request.
    pub fn read(
        violations: &mut Violations,
        text: Option<&TextTokens>,
        negative: Option<&TextTokens>,
        wanted: &TextCondition,
    ) -> Option<Self> {
        violations.require(
            negative.is_some() || wanted.without != WithoutText::EmptyText,
            "negative_text",
            "is missing: without a negative prompt this model takes the empty text, encoded",
        );
        let negative = negative.map(|negative| read(violations, "negative_text", Some(negative), wanted));
        let text = read(violations, "text", text, wanted)?;
        let with = Text::new(text, wanted);
        let without = match (negative, wanted.without) {
            (Some(negative), _) => Text::new(negative?, wanted),
            (None, WithoutText::Zeros) => Text {
                tokens: vec![0.0; with.tokens.len()],
                mask: with.mask.clone(),
                pooled: vec![0.0; with.pooled.len()],
            },
            (None, _) => Text { mask: vec![0.0; wanted.max_tokens], ..with.clone() },
        };
        Some(Self { with, without })
    }

    /// What a row of `condition` sees.
    pub fn of(&self, condition: Condition) -> &Text {
        if condition.text { &self.with } else { &self.without }
    }
}

impl Text {
    fn new(text: EncodedText, wanted: &TextCondition) -> Self {
        Self { mask: text.mask(wanted.max_tokens), tokens: text.tokens, pooled: text.pooled }
    }
}

/// Reads the encoded text in `field`, for a model that takes what is `wanted`.
pub fn read(
    violations: &mut Violations,
    field: &str,
    text: Option<&TextTokens>,
    wanted: &TextCondition,
) -> Option<EncodedText> {
    let empty = TextTokens::default();
    let text = text.unwrap_or(&empty);
    violations.take(field, EncodedText::from_message(text, wanted.max_tokens, wanted.dim, wanted.pooled_dim))
}
