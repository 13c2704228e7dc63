//! A text model: tokenizer and graph, one text at a time, answers remembered.

use std::sync::{Arc, Mutex, PoisonError};

use moka::sync::Cache;
use reverie_inference::tokenizer::{Overflow, TokenizeError};
use reverie_inference::{Input, Model, ModelError, Package, TokenizedText, Tokenizer, Values};

use crate::Settings;
use crate::wanted::Wanted;

/// What a text becomes.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The model's outputs for one text, each row-major.
    pub(crate) outputs: Vec<Vec<f32>>,
    /// Tokens that are no padding.
    pub(crate) length: usize,
}

/// Why a text was not encoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No one waits for it any more.
    #[error("the caller is gone")]
    NotWanted,
}

impl Encoded {
    /// What it takes in memory, with a key of `ids`.
    fn bytes(&self, ids: usize) -> u32 {
        let values: usize = self.outputs.iter().map(Vec::len).sum();
        u32::try_from(4 * values + 8 * ids).unwrap_or(u32::MAX)
    }
}

pub(crate) struct TextModel {
    tokenizer: Tokenizer,
    model: Mutex<Model>,
    /// The outputs that are read, with their extents for one text.
    pub(crate) outputs: Vec<(&'static str, Vec<usize>)>,
    takes_mask: bool,
    /// Identity of the model.
    pub(crate) digest: String,
    cache: Cache<Vec<i64>, Arc<Encoded>>,
}

impl TextModel {
    /// Loads a package, of which `outputs` are read.
    pub(crate) fn load(
        package: &Package,
        outputs: &[&'static str],
        settings: &Settings,
    ) -> Result<Self, ModelError> {
        let model = Model::load(package, &settings.inference.fitting(package))?;
        let shape = |output: &&'static str| Ok((*output, package.sample_shape(output)?));
        Ok(Self {
            tokenizer: Tokenizer::load(package)?,
            takes_mask: model.takes("attention_mask"),
            model: Mutex::new(model),
            outputs: outputs.iter().map(shape).collect::<Result<_, ModelError>>()?,
            digest: package.digest(),
            cache: Cache::builder()
                .weigher(|ids: &Vec<i64>, encoded: &Arc<Encoded>| encoded.bytes(ids.len()))
                .max_capacity(settings.limits.cache_mib << 20)
                .build(),
        })
    }

    pub(crate) fn tokenize(&self, text: &str, overflow: Overflow) -> Result<TokenizedText, TokenizeError> {
        self.tokenizer.encode(text, overflow)
    }

    /// Encodes one text, unless its caller is gone when it is its turn. Blocks.
    pub(crate) fn encode(&self, text: &TokenizedText, wanted: &Wanted) -> Result<Arc<Encoded>, EncodeError> {
        if let Some(known) = self.cache.get(&text.ids) {
            return Ok(known);
        }
        let shape = [1, text.ids.len()];
        let mut inputs = vec![Input { name: "token_ids", shape: &shape, values: Values::I64(&text.ids) }];
        if self.takes_mask {
            let values = Values::I64(&text.attention_mask);
            inputs.push(Input { name: "attention_mask", shape: &shape, values });
        }
        let places = self.outputs.iter().map(|(_, extents)| vec![0.0; extents.iter().product()]);
        let mut values: Vec<Vec<f32>> = places.collect();
        let names = self.outputs.iter().map(|(name, _)| *name);
        let mut outputs: Vec<(&str, &mut [f32])> =
            names.zip(values.iter_mut().map(Vec::as_mut_slice)).collect();
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if !wanted.is_wanted() {
            return Err(EncodeError::NotWanted);
        }
        model.run(&inputs, &mut outputs)?;
        drop(model);
        let encoded = Arc::new(Encoded { outputs: values, length: text.length });
        self.cache.insert(text.ids.clone(), Arc::clone(&encoded));
        Ok(encoded)
    }
}
