//! A text model: tokenizer and graph, one text at a time, results kept by content.

use std::sync::Arc;

use reverie_engine::cost::Weight;
use reverie_engine::{
    Cache, Input, Lane, ModelError, RowData, RowError, RowModel, RunError, Session, Values,
};
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
        let tokenizer = Tokenizer::load(package)?;
        // Texts are padded, so each is as long as any other.
        let typical = tokenizer.encode("", Overflow::Cut).ok();
        let graph = |session| TextGraph { session, outputs: Arc::clone(&outputs), typical: typical.clone() };
        let graphs = sessions.into_iter().map(graph).collect();
        let bytes = |encoded: &Arc<Encoded>| 4 * encoded.outputs.iter().map(Vec::len).sum::<usize>();
        Ok(Self {
            tokenizer,
            lane: Lane::of_package(package, graphs, &settings.lane, &settings.inference)?,
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
    /// A text of the usual length.
    typical: Option<TokenizedText>,
}

impl RowModel for TextGraph {
    type Row = TokenizedText;
    type Output = Vec<Vec<f32>>;

    fn batch(&self) -> usize {
        self.session.batch()
    }

    fn weight(text: &TokenizedText) -> Weight {
        Weight::from(text.ids.len() as f64)
    }

    fn typical_rows(&self) -> Vec<TokenizedText> {
        self.typical.iter().cloned().collect()
    }

    fn can_share(one: &TokenizedText, other: &TokenizedText) -> bool {
        one.ids.len() == other.ids.len()
    }

    fn run(&mut self, texts: &mut [TokenizedText]) -> Result<Vec<Vec<Vec<f32>>>, RowError> {
        let Self { session, outputs, .. } = self;
        let empty = || outputs.iter().map(|(_, elements)| vec![0.0; *elements]).collect();
        let mut all: Vec<Vec<Vec<f32>>> = texts.iter().map(|_| empty()).collect();
        let shapes: Vec<[usize; 2]> = texts.iter().map(|text| [1, text.ids.len()]).collect();
        let data = texts.iter().zip(&shapes).zip(&mut all).map(|((text, shape), values)| {
            let input = |name, values| Input { name, shape, values: Values::I64(values), identity: None };
            let mut inputs = vec![input("token_ids", &text.ids)];
            if session.takes("attention_mask") {
                inputs.push(input("attention_mask", &text.attention_mask));
            }
            let names = outputs.iter().map(|(name, _)| *name);
            RowData { inputs, outputs: names.zip(values.iter_mut().map(Vec::as_mut_slice)).collect() }
        });
        let mut data: Vec<RowData<'_>> = data.collect();
        session.run(&mut data)?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use reverie_engine::{InferenceSettings, contract};
    use reverie_packages::Role;

    use super::*;

    #[tokio::test]
    async fn a_row_depends_on_nothing_but_itself() {
        let package = contract::package(Role::TextEncoder).await;
        let elements = package.sample_shape("text_tokens").unwrap().iter().product();
        let outputs = Arc::<[Output]>::from([("text_tokens", elements)]);
        let tokenizer = Tokenizer::load(&package).unwrap();
        let texts = ["a zunin", "snow", "a small dribago on the left", "cave"];
        let row = |number: u32| tokenizer.encode(texts[number as usize], Overflow::Refuse).unwrap();
        let wrong = || TokenizedText { ids: vec![-1; 3], attention_mask: vec![1; 3], length: 3 };
        let open = |inference: &InferenceSettings| {
            let sessions = Session::open_all(&package, inference).unwrap();
            let graph = |session| TextGraph { session, outputs: Arc::clone(&outputs), typical: Some(row(0)) };
            sessions.into_iter().map(graph).collect()
        };
        contract::check(open, row, wrong);
    }
}
