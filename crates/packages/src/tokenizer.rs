//! Text to token ids, by a Hugging Face `tokenizer.json`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};

use tokenizers::{ModelWrapper, PostProcessor as _, TruncationDirection};

use crate::PackageError;
use crate::package::Package;

/// The tokenizer of a text model.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    vocabulary: tokenizers::Tokenizer,
    max_tokens: usize,
    pad_id: u32,
    lowercase: bool,
    unmasked: bool,
    /// Tokens of textual inversion that stand for several vectors, each with all tokens that take its place in a text.
    inversions: Vec<(String, String)>,
}

/// A text as token ids, padded to the model's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedText {
    /// Token ids `[max_tokens]`.
    pub ids: Vec<i64>,
    /// 1 for a token, 0 for padding that the model is not to see, `[max_tokens]`.
    pub attention_mask: Vec<i64>,
    /// Tokens that are no padding.
    pub length: usize,
}

/// Why a text has no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// It has more tokens than the model takes.
    #[error("it has {tokens} tokens, the model takes at most {limit}: shorten it")]
    TooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens the model takes.
        limit: usize,
    },
    /// The tokenizer has nothing for a part of it.
    #[error("the tokenizer cannot read it: {0}")]
    Unreadable(String),
}

/// What to do with a text that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Refuse it.
    Refuse,
    /// Cut it; the tokens that the tokenizer puts around a text stay.
    Cut,
}

/// Runs what panics in the library where a `tokenizer.json` contradicts itself, such as one whose template names a token that it
/// does not have, or where a part of it is broken that is coded for itself (`precompiled_charsmap`).
fn unwinding<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("it is broken, or contradicts itself".into()))
}

impl Tokenizer {
    /// The tokenizer of a verified package.
    pub fn load(package: &Package) -> Result<Self, PackageError> {
        let wrong = |why: String| PackageError::Manifest { file: package.location.clone(), why };
        let Some(facts) = &package.manifest.tokenizer else {
            return Err(wrong("model.toml: [tokenizer] is missing".to_owned()));
        };
        let file = package.file(&facts.file)?;
        let mut tokenizer = unwinding(|| tokenizers::Tokenizer::from_bytes(file))
            .map_err(|error| wrong(format!("{}: {error}", facts.file)))?;
        // BPE-dropout (Provilkov et al., ACL 2020) regularises training; a text to draw has the same tokens each time.
        if let ModelWrapper::BPE(merges) = tokenizer.get_model()
            && merges.dropout.is_some()
        {
            let mut merges = merges.clone();
            merges.dropout = None;
            tokenizer.with_model(merges);
        }
        // Length is ours to deal with: a text that is too long may have to be refused.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| wrong(format!("{}: {error}", facts.file)))?;
        let tokenizer = Self {
            inversions: inversions(&tokenizer),
            vocabulary: tokenizer,
            max_tokens: facts.max_tokens,
            pad_id: facts.pad_id,
            lowercase: facts.lowercase,
            unmasked: facts.unmasked,
        };
        // What it puts around every text is tried out now: a token that it does not have is found when it is used.
        tokenizer.encode("", Overflow::Cut).map_err(|error| wrong(format!("{}: {error}", facts.file)))?;
        Ok(tokenizer)
    }

    /// Tokenizes a text.
    pub fn encode(&self, text: &str, overflow: Overflow) -> Result<TokenizedText, TokenizeError> {
        // An unknown word is a token like any other, unless the vocabulary has none for it.
        let unreadable = |error: tokenizers::Error| TokenizeError::Unreadable(error.to_string());
        let mut text = Cow::Borrowed(text);
        for (token, all) in &self.inversions {
            if text.contains(token) {
                text = text.replace(token, all).into();
            }
        }
        let text = if self.lowercase { text.to_lowercase().into() } else { text };
        let mut found = unwinding(|| self.vocabulary.encode(text, false)).map_err(unreadable)?;
        let around = self.vocabulary.get_post_processor().map_or(0, |around| around.added_tokens(false));
        let tokens = found.len() + around;
        if tokens > self.max_tokens {
            if overflow == Overflow::Refuse {
                return Err(TokenizeError::TooLong { tokens, limit: self.max_tokens });
            }
            found.truncate(self.max_tokens.saturating_sub(around), 0, TruncationDirection::Right);
        }
        let found = unwinding(|| self.vocabulary.post_process(found, None, true)).map_err(unreadable)?;
        let length = found.len().min(self.max_tokens);
        let mut ids = vec![i64::from(self.pad_id); self.max_tokens];
        let mut attention_mask = vec![i64::from(self.unmasked); self.max_tokens];
        for (index, id) in found.get_ids().iter().take(length).enumerate() {
            ids[index] = i64::from(*id);
            attention_mask[index] = 1;
        }
        Ok(TokenizedText { ids, attention_mask, length })
    }
}

/// A concept that was taught as several vectors is several added tokens: `<cat>`, `<cat>_1`, `<cat>_2`. A prompt names the first,
/// and the pipelines of diffusers read all of them (`maybe_convert_prompt`).
fn inversions(tokenizer: &tokenizers::Tokenizer) -> Vec<(String, String)> {
    let added: BTreeSet<String> =
        tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    let all = |token: &String| {
        let others = (1..).map(|number| format!("{token}_{number}")).take_while(|name| added.contains(name));
        let others: Vec<String> = others.collect();
        (!others.is_empty()).then(|| (token.clone(), format!("{token} {}", others.join(" "))))
    };
    added.iter().filter_map(all).collect()
}
