//! Text to token ids, by a Hugging Face `tokenizer.json`.

use crate::ModelError;
use crate::package::Package;

/// The tokenizer of a text model.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    vocabulary: tokenizers::Tokenizer,
    max_tokens: usize,
    pad_id: u32,
}

/// A text as token ids, padded to the model's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedText {
    /// Token ids `[max_tokens]`.
    pub ids: Vec<i64>,
    /// 1 for a token, 0 for padding, `[max_tokens]`.
    pub attention_mask: Vec<i64>,
    /// Tokens that are no padding.
    pub length: usize,
}

/// The text has more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has {tokens} tokens, the model takes at most {limit}")]
pub struct TooLong {
    /// Tokens of the text.
    pub tokens: usize,
    /// Tokens the model takes.
    pub limit: usize,
}

/// What to do with a text that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Refuse it.
    Refuse,
    /// Cut it.
    Cut,
}

impl Tokenizer {
    /// The tokenizer of a verified package.
    pub fn load(package: &Package) -> Result<Self, ModelError> {
        let wrong = |why: String| ModelError::Manifest { file: package.location.clone(), why };
        let Some(facts) = &package.manifest.tokenizer else {
            return Err(wrong("model.toml: [tokenizer] is missing".to_owned()));
        };
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(package.file(&facts.file)?)
            .map_err(|error| wrong(format!("{}: {error}", facts.file)))?;
        // Length is ours to deal with: a text that is too long may have to be refused.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| wrong(format!("{}: {error}", facts.file)))?;
        Ok(Self { vocabulary: tokenizer, max_tokens: facts.max_tokens, pad_id: facts.pad_id })
    }

    /// Tokenizes a text.
    pub fn encode(&self, text: &str, overflow: Overflow) -> Result<TokenizedText, TooLong> {
        // Fails only for pre-tokenized input and broken models; an unknown word is a token like any other.
        let found = self
            .vocabulary
            .encode(text, true)
            .map(|encoding| encoding.get_ids().to_vec())
            .unwrap_or_default();
        if found.len() > self.max_tokens && overflow == Overflow::Refuse {
            return Err(TooLong { tokens: found.len(), limit: self.max_tokens });
        }
        let length = found.len().min(self.max_tokens);
        let mut ids = vec![i64::from(self.pad_id); self.max_tokens];
        let mut attention_mask = vec![0; self.max_tokens];
        for (index, id) in found.into_iter().take(length).enumerate() {
            ids[index] = i64::from(id);
            attention_mask[index] = 1;
        }
        Ok(TokenizedText { ids, attention_mask, length })
    }
}
