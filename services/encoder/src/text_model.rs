//! A text model: tokenizer and graph, one text at a time, results kept by content.

use std::sync::Arc;

use reverie_engine::{Cache, Input, Lane, ModelError, RowError, RowModel, RunError, Session, Values};
use reverie_packages::tokenizer::{Overflow, TokenizeError};
use reverie_packages::{Package, TokenizedText, Tokenizer};
use reverie_service_kit::Context;
use reverie_stage::lanes;
use sha2::{Digest as _, Sha256};

use crate::Settings;

/// What a text becomes.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The model's outputs for one text, each row-major.
    pub(crate) outputs: Vec<Vec<f32>>,
    /// Tokens that are no padding.
    pub(crate) length: usize,
}

/// An output that is read: its name, and its elements for one text.
type Output = (&'static str, usize);

pub(crate) struct TextModel {
    tokenizer: Tokenizer,
    pub(crate) lane: Lane<TextGraph>,
    /// Identity of the model.
    pub(crate) digest: String,
    cache: Cache<Arc<Encoded>>,
}

impl TextModel {
    /// Loads a package, of which `outputs` are read; `name` is that of its cache. Blocks.
    pub(crate) fn load(
        package: &Package,
        outputs: &[&'static str],
        name: &'static str,
        settings: &Settings,
    ) -> Result<Self, ModelError> {
        let elements = |output: &&'static str| {
            Ok::<Output, ModelError>((*output, package.sample_shape(output)?.iter().product()))
        };
        let outputs: Arc<[Output]> = outputs.iter().map(elements).collect::<Result<_, _>>()?;
        let sessions = Session::open_all(package, &settings.inference)?;
        let graph = |session| TextGraph { session, outputs: Arc::clone(&outputs) };
        let graphs = sessions.into_iter().map(graph).collect();
        let bytes = |encoded: &Arc<Encoded>| 4 * encoded.outputs.iter().map(Vec::len).sum::<usize>();
        Ok(Self {
            tokenizer: Tokenizer::load(package)?,
            lane: Lane::of_package(package, graphs, settings.lane, &settings.inference)?,
            digest: package.digest(),
            cache: Cache::new(name, settings.limits.cache_mib << 20, bytes),
        })
    }

    pub(crate) fn tokenize(&self, text: &str, overflow: Overflow) -> Result<TokenizedText, TokenizeError> {
        self.tokenizer.encode(text, overflow)
    }

    /// Encodes one text.
    pub(crate) async fn encode(
        &self,
        text: &TokenizedText,
        context: Context,
    ) -> Result<Arc<Encoded>, Arc<RunError>> {
        let compute = async || {
            let computed = self.lane.run(lanes::call(context), text.clone()).await?;
            Ok(Arc::new(Encoded { outputs: computed.output, length: text.length }))
        };
        self.cache.get_or_compute(content_key(text), compute, RunError::is_personal).await
    }
}

fn content_key(text: &TokenizedText) -> [u8; 32] {
    let mut hash = Sha256::new();
    for id in &text.ids {
        hash.update(id.to_le_bytes());
    }
    hash.finalize().into()
}

/// The graph on one session.
pub(crate) struct TextGraph {
    session: Session,
    outputs: Arc<[Output]>,
}

impl RowModel for TextGraph {
    type Row = TokenizedText;
    type Output = Vec<Vec<f32>>;

    fn run(&mut self, text: TokenizedText) -> Result<Vec<Vec<f32>>, RowError> {
        let shape = [1, text.ids.len()];
        let mut inputs = vec![Input { name: "token_ids", shape: &shape, values: Values::I64(&text.ids) }];
        if self.session.takes("attention_mask") {
            let values = Values::I64(&text.attention_mask);
            inputs.push(Input { name: "attention_mask", shape: &shape, values });
        }
        let mut values: Vec<Vec<f32>> =
            self.outputs.iter().map(|(_, elements)| vec![0.0; *elements]).collect();
        let names = self.outputs.iter().map(|(name, _)| *name);
        let mut outputs: Vec<(&str, &mut [f32])> =
            names.zip(values.iter_mut().map(Vec::as_mut_slice)).collect();
        self.session.run(&inputs, &mut outputs)?;
        Ok(values)
    }
}
