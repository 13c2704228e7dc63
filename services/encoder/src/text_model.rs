//! A text model: tokenizer and graph, one text at a time, answers remembered.

use std::sync::{Arc, Mutex, PoisonError};

use moka::sync::Cache;
use reverie_inference::tokenizer::{Overflow, TooLong};
use reverie_inference::{Input, Model, ModelError, Package, TokenizedText, Tokenizer, Values};

/// What a text becomes.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The model's output for one text, row-major.
    pub(crate) values: Vec<f32>,
    /// Tokens that are no padding.
    pub(crate) length: usize,
}

pub(crate) struct TextModel {
    tokenizer: Tokenizer,
    model: Mutex<Model>,
    output: &'static str,
    /// Extents of the output for one text.
    pub(crate) shape: Vec<usize>,
    /// SHA-256 of the graph.
    pub(crate) digest: String,
    cache: Cache<Vec<i64>, Arc<Encoded>>,
}

impl TextModel {
    pub(crate) fn new(
        package: &Package,
        tokenizer: Tokenizer,
        model: Model,
        output: &'static str,
        cached_texts: u64,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            tokenizer,
            model: Mutex::new(model),
            output,
            shape: package.sample_shape(output)?,
            digest: package.digest().to_owned(),
            cache: Cache::new(cached_texts),
        })
    }

    pub(crate) fn tokenize(&self, text: &str, overflow: Overflow) -> Result<TokenizedText, TooLong> {
        self.tokenizer.encode(text, overflow)
    }

    /// Encodes one text. Blocks.
    pub(crate) fn encode(&self, text: &TokenizedText) -> Result<Arc<Encoded>, ModelError> {
        if let Some(known) = self.cache.get(&text.ids) {
            return Ok(known);
        }
        let shape = [1, text.ids.len()];
        let inputs = [
            Input { name: "token_ids", shape: &shape, values: Values::I64(&text.ids) },
            Input { name: "attention_mask", shape: &shape, values: Values::I64(&text.attention_mask) },
        ];
        let mut values = vec![0.0; self.shape.iter().product()];
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.run(&inputs, &mut [(self.output, &mut values)])?;
        drop(model);
        let encoded = Arc::new(Encoded { values, length: text.length });
        self.cache.insert(text.ids.clone(), Arc::clone(&encoded));
        Ok(encoded)
    }
}
