//! Tokenizers: `tokenizer.json` as it is, or one made of the `vocab.json` and `merges.txt` of CLIP.
//!
//! The latter gives the ids of the `CLIPTokenizer` of transformers without ftfy, which is what pipelines of diffusers have:
//! text is cleaned, CJK characters are set apart, all is lower-cased, words are split by CLIP's pattern (Radford et al., 2021)
//! and joined by byte-pair encoding with `</w>` at the end of a word, between `<|startoftext|>` and `<|endoftext|>`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ImportError;
use crate::source::Source;

/// A tokenizer as a package holds it.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// `tokenizer.json`.
    pub(crate) json: String,
    /// The most tokens that the model reads; none if the configuration does not say.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) pad_id: u32,
}

#[derive(Deserialize)]
struct Config {
    /// transformers writes 10^30 for no limit.
    model_max_length: Option<f64>,
    #[serde(flatten)]
    named: NamedTokens,
    #[serde(default)]
    tokenizer_class: String,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, AddedToken>,
}

/// The tokens that have a task. Also `special_tokens_map.json`.
#[derive(Deserialize, Default)]
struct NamedTokens {
    #[serde(rename = "pad_token")]
    pad: Option<Token>,
    #[serde(rename = "unk_token")]
    unk: Option<Token>,
    #[serde(rename = "bos_token")]
    bos: Option<Token>,
    #[serde(rename = "eos_token")]
    eos: Option<Token>,
}

/// A token's text, or a description of the token.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Token {
    Text(String),
    Described { content: String },
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
    #[serde(default)]
    special: bool,
    /// What else there is to say of it: how it takes the blanks around it.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Described { content: text } => text,
        }
    }
}

/// A bound on what a configuration can make us allocate.
const MAX_TOKENS: f64 = 65_536.0;
const END: &str = "<|endoftext|>";
/// Words, numbers digit by digit, runs of other signs.
const PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Reads the tokenizer of the part `folder`.
pub(crate) fn import(source: &Source, folder: &str) -> Result<Tokenizer, ImportError> {
    let why = "a text encoder needs its tokenizer";
    let path = format!("{folder}/tokenizer_config.json");
    let mut config: Config = source.json(&path, why)?;
    let full = source.file(&path, why)?;
    let map = format!("{folder}/special_tokens_map.json");
    // Before transformers 4.34 a configuration did not describe its tokens, and this file had the last word.
    if config.added_tokens_decoder.is_empty() && source.has(&map) {
        let map: NamedTokens = source.json(&map, why)?;
        let NamedTokens { pad, unk, bos, eos } = config.named;
        config.named = NamedTokens {
            pad: map.pad.or(pad),
            unk: map.unk.or(unk),
            bos: map.bos.or(bos),
            eos: map.eos.or(eos),
        };
    }
    let wrong = |why: String| ImportError::wrong(&full, why);
    let (json, vocabulary) = if source.has(&format!("{folder}/tokenizer.json")) {
        let text = source.text(&format!("{folder}/tokenizer.json"), why)?;
        let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        (text, added_ids(&value))
    } else if source.has(&format!("{folder}/vocab.json")) {
        if config.tokenizer_class.trim_end_matches("Fast") != "CLIPTokenizer" {
            return Err(wrong(format!(
                "only a CLIPTokenizer can be made of vocab.json and merges.txt, this is a {}: save it with a tokenizer.json \
                 (AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(…))",
                config.tokenizer_class
            )));
        }
        clip(source, folder, &config)?
    } else {
        return Err(wrong(
            "has neither tokenizer.json nor vocab.json beside it: save it with a tokenizer.json \
             (AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(…))"
                .to_owned(),
        ));
    };
    let is_clip = config.tokenizer_class.starts_with("CLIPTokenizer");
    let pad = config.named.pad.as_ref().map(Token::text).or(is_clip.then_some(END));
    let pad = pad.ok_or_else(|| wrong("has no pad_token".to_owned()))?;
    let own = config.added_tokens_decoder.iter().find(|(_, token)| token.content == pad);
    let own = own.and_then(|(id, _)| id.parse().ok());
    let pad_id = own.or_else(|| vocabulary.get(pad).copied());
    let pad_id = pad_id.ok_or_else(|| wrong(format!("its pad_token {pad:?} is no token")))?;
    let max_tokens = config.model_max_length.filter(|length| (1.0..MAX_TOKENS).contains(length));
    Ok(Tokenizer { json, max_tokens: max_tokens.map(|length| length as usize), pad_id })
}

/// The ids of the tokens that a tokenizer.json adds to its model's.
fn added_ids(json: &Value) -> BTreeMap<String, u32> {
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let id = |token: &Value| {
        Some((token["content"].as_str()?.to_owned(), u32::try_from(token["id"].as_u64()?).ok()?))
    };
    let mut ids: BTreeMap<String, u32> = added.filter_map(id).collect();
    if let Some(vocabulary) = json["model"]["vocab"].as_object() {
        let ids_of = vocabulary
            .iter()
            .filter_map(|(token, id)| Some((token.clone(), u32::try_from(id.as_u64()?).ok()?)));
        ids.extend(ids_of);
    }
    ids
}

fn clip(
    source: &Source,
    folder: &str,
    config: &Config,
) -> Result<(String, BTreeMap<String, u32>), ImportError> {
    let why = "CLIP's tokenizer is made of vocab.json and merges.txt";
    let vocabulary: BTreeMap<String, u32> = source.json(&format!("{folder}/vocab.json"), why)?;
    let merges = source.text(&format!("{folder}/merges.txt"), why)?;
    // The first line names the version of the format.
    let merges: Vec<&str> =
        merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).collect();
    let path = source.file(&format!("{folder}/vocab.json"), why)?;
    let wrong = |why: String| ImportError::wrong(&path, why);
    if let Some(line) = merges.iter().find(|line| line.split(' ').count() != 2) {
        return Err(wrong(format!("merges.txt has the line {line:?}, which joins no two tokens")));
    }
    let named = |token: &Option<Token>, default: &str| -> Result<(String, u32), ImportError> {
        let text = token.as_ref().map_or(default, Token::text);
        let id = vocabulary.get(text).copied().ok_or_else(|| wrong(format!("has no token {text:?}")))?;
        Ok((text.to_owned(), id))
    };
    let start = named(&config.named.bos, "<|startoftext|>")?;
    let end = named(&config.named.eos, END)?;
    let unknown = named(&config.named.unk, END)?;
    let pad = named(&config.named.pad, END)?;
    let mut added: BTreeMap<u32, Value> = BTreeMap::new();
    for (content, id) in [&start, &end, &unknown, &pad] {
        added.insert(*id, added_token(*id, content, true, &Map::new()));
    }
    // Tokens that someone taught the encoder (textual inversion) are among the others.
    let legacy = format!("{folder}/added_tokens.json");
    if config.added_tokens_decoder.is_empty() && source.has(&legacy) {
        for (content, id) in source.json::<BTreeMap<String, u32>>(&legacy, why)? {
            added.insert(id, added_token(id, &content, false, &Map::new()));
        }
    }
    for (id, token) in &config.added_tokens_decoder {
        let id =
            id.parse().map_err(|_| wrong(format!("tokenizer_config.json: {id:?} is no id of a token")))?;
        added.insert(id, added_token(id, &token.content, token.special, &token.rest));
    }
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.into_values().collect::<Vec<_>>(),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {
                    "type": "BertNormalizer",
                    "clean_text": true,
                    "handle_chinese_chars": true,
                    "strip_accents": false,
                    "lowercase": false,
                },
                {"type": "NFC"},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Removed", "invert": true},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [end.0, end.1],
            "cls": [start.0, start.1],
            "trim_offsets": false,
            "add_prefix_space": false,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown.0,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    Ok((json.to_string(), vocabulary))
}

fn added_token(id: u32, content: &str, special: bool, rest: &Map<String, Value>) -> Value {
    let is = |key: &str| rest.get(key).and_then(Value::as_bool).unwrap_or_default();
    json!({
        "id": id,
        "content": content,
        "single_word": is("single_word"),
        "lstrip": is("lstrip"),
        "rstrip": is("rstrip"),
        // They are found in the text as it came, upper and lower case apart.
        "normalized": false,
        "special": special,
    })
}
