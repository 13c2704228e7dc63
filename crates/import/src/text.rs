//! The text encoders of a pipeline.

use reverie_packages::bundle::OneOrMore;
use reverie_packages::package::manifest::MAX_EXTENT;
use reverie_packages::package::{LeftOut, Role, TextFacts, TokenizerFacts, joint_digest};

use crate::ImportError;
use crate::bundle::{Content, Draft};
use crate::graph::{Part, batch_of};
use crate::keys::Keys;
use crate::pipeline::{Family, Pipeline};
use crate::source::Source;
use crate::tokenizer;

/// Tokens of T5 in Stable Diffusion 3: `max_sequence_length`.
const T5_TOKENS: usize = 256;

/// What the text encoders of a bundle give together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) digest: String,
    pub(crate) tokens: usize,
    pub(crate) width: usize,
    /// Width of the pooled text; 0 for none.
    pub(crate) pooled: usize,
}

/// One text encoder of a family.
#[derive(Debug, Clone, Copy)]
struct Encoder {
    folder: &'static str,
    tokenizer: &'static str,
    tokens: Option<Output>,
    pooled: Option<&'static str>,
    block: usize,
    /// The length that the pipeline pads texts to, where it is not the tokenizer's.
    length: Option<usize>,
}

/// Which output holds the tokens.
#[derive(Debug, Clone, Copy)]
enum Output {
    /// After the last layer and its normalisation.
    Last,
    /// Before the last layer.
    Penultimate,
    /// A projected vector of unit length, as the only token.
    Projected,
}

/// The encoders of a family, in the order in which its pipeline joins what they give.
fn encoders(family: Family) -> Vec<Encoder> {
    let first = Encoder {
        folder: "text_encoder",
        tokenizer: "tokenizer",
        tokens: Some(Output::Last),
        pooled: None,
        block: 0,
        length: None,
    };
    let second = Encoder { folder: "text_encoder_2", tokenizer: "tokenizer_2", ..first };
    let third = Encoder { folder: "text_encoder_3", tokenizer: "tokenizer_3", block: 1, ..first };
    let penultimate = Some(Output::Penultimate);
    let projected = Some("text_embeds");
    match family {
        Family::StableDiffusion => vec![first],
        // encode_prompt pads to 77 tokens whatever the tokenizer says.
        Family::If | Family::IfSuperResolution => vec![Encoder { length: Some(77), ..first }],
        Family::StableDiffusionXl => vec![
            Encoder { tokens: penultimate, ..first },
            Encoder { tokens: penultimate, pooled: projected, ..second },
        ],
        Family::StableDiffusion3 => vec![
            Encoder { tokens: penultimate, pooled: projected, ..first },
            Encoder { tokens: penultimate, pooled: projected, ..second },
            Encoder { length: Some(T5_TOKENS), ..third },
        ],
        Family::Flux => vec![
            Encoder { tokens: None, pooled: Some("pooler_output"), ..first },
            Encoder { length: Some(512), ..second },
        ],
        Family::RetrievalAugmented => vec![Encoder { tokens: Some(Output::Projected), ..first }],
    }
}

/// What of an encoder's configuration counts beside its graph.
struct Config {
    layers: usize,
    hidden_size: usize,
    /// Of CLIP: width of `text_embeds`.
    projected: Option<usize>,
    /// The most tokens that CLIP has places for.
    places: Option<usize>,
    /// Of old Stable Diffusion: whether padding is masked.
    masks: bool,
}

impl Config {
    fn read(keys: &Keys) -> Result<Self, ImportError> {
        let width = |keys: &Keys, names: &[&str]| {
            let width: usize = keys.need(names)?;
            let name = names.iter().find(|name| keys.has(name)).copied().unwrap_or_default();
            if (1..=MAX_EXTENT).contains(&width) {
                Ok(width)
            } else {
                Err(keys.wrong(name, format!("must be 1 to {MAX_EXTENT}")))
            }
        };
        let projected = keys.has("projection_dim").then(|| width(keys, &["projection_dim"]));
        Ok(Self {
            layers: keys.need(&["num_hidden_layers", "num_layers"])?,
            hidden_size: width(keys, &["hidden_size", "d_model"])?,
            projected: projected.transpose()?,
            places: keys.get("max_position_embeddings")?,
            masks: keys.is("use_attention_mask")?,
        })
    }
}

/// What stands for T5 in a Stable Diffusion 3 without it: as many tokens as T5 would give, of the width that the model takes.
fn left_out(source: &Source, pipeline: &Pipeline) -> Result<Option<LeftOut>, ImportError> {
    if pipeline.family != Family::StableDiffusion3 || pipeline.has_third_text_encoder {
        return Ok(None);
    }
    let keys = Keys::read(source, "transformer/config.json", "it says how wide the tokens of T5 are")?;
    let width: usize = keys.need(&["joint_attention_dim"])?;
    if !(1..=MAX_EXTENT).contains(&width) {
        return Err(keys.wrong("joint_attention_dim", format!("must be 1 to {MAX_EXTENT}")));
    }
    Ok(Some(LeftOut { tokens: T5_TOKENS, width }))
}

/// Imports the text encoders, each a package.
pub(crate) fn import(source: &Source, pipeline: &Pipeline, draft: &mut Draft) -> Result<Text, ImportError> {
    let mut text = Text { digest: String::new(), tokens: 0, width: 0, pooled: 0 };
    let (mut names, mut digests, mut blocks) = (Vec::new(), Vec::new(), Vec::<(usize, usize)>::new());
    let mut encoders = encoders(pipeline.family);
    let left_out = left_out(source, pipeline)?;
    if left_out.is_some() {
        encoders.pop();
        let note = "there is no text_encoder_3 (T5): zeros stand for its tokens, as in diffusers";
        draft.notes.push(note.to_owned());
    }
    for (number, encoder) in encoders.iter().enumerate() {
        let Encoder { folder, block, .. } = *encoder;
        let left_out = left_out.filter(|_| number + 1 == encoders.len());
        if !source.has(folder) {
            return Err(ImportError::unsupported(
                source,
                format!("its {folder} is missing; export the pipeline with all of its text encoders"),
            ));
        }
        let why = "the shape of its outputs follows from it";
        let keys = Keys::read(source, &format!("{folder}/config.json"), why)?;
        let config = Config::read(&keys)?;
        let class = pipeline.class_of(encoder.tokenizer);
        let tokenizer = tokenizer::import(source, encoder.tokenizer, class, &mut draft.notes)?;
        let mut part = Part::read(source, folder)?;
        // What a pipeline pads to, it pads to whatever the tokenizer says.
        let length = encoder.length.map_or_else(|| tokenizer.max_tokens(config.places), Ok)?;
        // IF masks padding; the others let it be read like text, but for Stable Diffusion where its encoder says otherwise.
        let masks = pipeline.family == Family::StableDiffusion && config.masks;
        let is_masked = matches!(pipeline.family, Family::If | Family::IfSuperResolution) || masks;
        if is_masked && !part.takes("attention_mask") {
            let why =
                "it takes no attention_mask, and its pipeline hides padding from it: export it with one";
            return Err(if masks {
                keys.wrong("use_attention_mask", format!("must be false: {why}"))
            } else {
                part.wrong(why)
            });
        }
        let given = encoder.name_tensors(&mut part, &keys, &config, length)?;
        text.pooled += given.pooled;
        if given.tokens > 0 {
            blocks.resize((block + 1).max(blocks.len()), (0, 0));
            blocks[block] = (given.tokens, blocks[block].1 + given.width);
        }
        let pad_id = tokenizer.pad_id;
        let has_others = encoders.len() > 1;
        // IFPipeline._text_preprocessing
        let lowercase = pipeline.family == Family::If;
        let unmasked = !is_masked;
        let content = |role, what: &str| Content {
            role,
            description: format!("{what} of {} ({folder}).", pipeline.class),
            of: format!("{}/tokenizer_config.json", encoder.tokenizer),
            texts: vec![("tokenizer.json".to_owned(), tokenizer.json.clone())],
            facts: Box::new(move |manifest| {
                let file = "tokenizer.json".to_owned();
                manifest.tokenizer =
                    Some(TokenizerFacts { file, max_tokens: length, pad_id, lowercase, unmasked });
                manifest.text = has_others.then_some(TextFacts { block, left_out });
            }),
        };
        let place = folder.replace('_', "-");
        digests.push(draft.package(source, &place, &part, content(Role::TextEncoder, "Text encoder"))?);
        if matches!(encoder.tokens, Some(Output::Projected)) {
            // The same vector is what texts are searched by.
            part.graph.outputs.clear();
            part.unit_output("embedding", "text_embeds", batch_of(&[given.width]))?;
            draft.package(source, "joint-text", &part, content(Role::JointText, "Joint text encoder"))?;
            draft.packages.joint_text = Some("joint-text".to_owned());
        }
        names.push(place);
    }
    blocks.extend(left_out.map(|LeftOut { tokens, width }| (tokens, width)));
    text.digest = joint_digest(digests.iter().map(String::as_str));
    text.tokens = blocks.iter().map(|(tokens, _)| tokens).sum();
    text.width = blocks.iter().map(|(_, width)| *width).max().unwrap_or_default();
    draft.packages.text_encoder = match &names[..] {
        [one] => OneOrMore::One(one.clone()),
        _ => OneOrMore::More(names),
    };
    Ok(text)
}

/// What one encoder gives.
struct Given {
    /// 0 for none.
    tokens: usize,
    width: usize,
    /// 0 for none.
    pooled: usize,
}

impl Encoder {
    /// Names what the graph takes and gives, with texts of `length` tokens.
    fn name_tensors(
        &self,
        part: &mut Part,
        keys: &Keys,
        config: &Config,
        length: usize,
    ) -> Result<Given, ImportError> {
        let hidden = config.hidden_size;
        let projected = config.projected.unwrap_or(hidden);
        let hidden_key = if keys.has("hidden_size") { "hidden_size" } else { "d_model" };
        part.agree(keys, hidden_key, part.output_extent("last_hidden_state", 2))?;
        part.agree(keys, "projection_dim", part.output_extent("text_embeds", 1))?;
        part.input("token_ids", "input_ids", Some(batch_of(&[length])))?;
        if part.takes("attention_mask") {
            part.input("attention_mask", "attention_mask", Some(batch_of(&[length])))?;
        }
        part.check_inputs()?;
        let (mut tokens, mut width) = (length, hidden);
        match self.tokens {
            None => tokens = 0,
            Some(Output::Last) => {
                part.output("text_tokens", "last_hidden_state", Some(batch_of(&[length, width])))?;
            }
            Some(Output::Penultimate) => {
                let theirs = format!("hidden_states.{}", config.layers.saturating_sub(1));
                if !part.gives(&theirs) {
                    return Err(part.wrong(format!(
                        "it does not give {theirs}, which this pipeline reads: export it with output_hidden_states"
                    )));
                }
                part.output("text_tokens", &theirs, Some(batch_of(&[length, width])))?;
            }
            Some(Output::Projected) => {
                (tokens, width) = (1, part.output_extent("text_embeds", 1).unwrap_or(projected));
                part.unit_output("text_tokens", "text_embeds", batch_of(&[1, width]))?;
            }
        }
        let mut pooled = 0;
        if let Some(theirs) = self.pooled {
            let own = if theirs == "text_embeds" { projected } else { hidden };
            pooled = part.output_extent(theirs, 1).unwrap_or(own);
            part.output("pooled_text", theirs, Some(batch_of(&[pooled])))?;
        }
        Ok(Given { tokens, width, pooled })
    }
}
