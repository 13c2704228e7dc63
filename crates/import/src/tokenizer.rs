//! Tokenizers: `tokenizer.json` as it is, or one made of the `vocab.json` and `merges.txt` of CLIP ([`clip`]).

mod clip;
mod made;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::ImportError;
use crate::keys::{Held, Keys};
use crate::source::Source;

use made::Made;

/// A tokenizer as a package holds it.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// `tokenizer.json`.
    pub(crate) json: String,
    pub(crate) pad_id: u32,
    config: Keys,
    /// `model_max_length`; transformers writes 10^30 for no limit.
    max_tokens: Option<usize>,
}

/// The classes whose tokens are known here: as they are in a tokenizer.json, or made of CLIP's vocabulary.
pub(crate) const CLASSES: [&str; 5] =
    ["CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast"];

/// The keys that name tokens with a task, in `tokenizer_config.json` and `special_tokens_map.json`.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];
/// More tokens that are found in a text as they are.
const ADDITIONAL: &str = "additional_special_tokens";

/// Keys of `tokenizer_config.json` that change no token, with the reason.
const INERT: [(&str, &[&str]); 4] = [
    (
        "pipelines say how to pad and cut",
        &[
            "max_length",
            "padding",
            "truncation",
            "stride",
            "truncation_strategy",
            "pad_to_multiple_of",
            "pad_token_type_id",
            "model_input_names",
            "return_tensors",
        ],
    ),
    ("of decoding", &["errors", "clean_up_tokenization_spaces"]),
    (
        "of chats, and of other classes",
        &["chat_template", "legacy", "do_lower_case", "sp_model_kwargs", "processor_class", "backend"],
    ),
    (
        "where it came from",
        &[
            "name_or_path",
            "_name_or_path",
            "special_tokens_map_file",
            "use_fast",
            "auto_map",
            "is_local",
            "transformers_version",
            "from_slow",
            "device_map",
        ],
    ),
];

/// A token's text, or a description of the token.
struct Token(String);

impl Held for Token {
    const WHAT: &'static str = "a token: a text, or an object with its content";

    fn of(value: &Value) -> Option<Self> {
        let text = value.as_str().or_else(|| value.get("content")?.as_str());
        text.map(|text| Self(text.to_owned()))
    }
}

/// A list of tokens.
struct Tokens(Vec<String>);

impl Held for Tokens {
    const WHAT: &'static str = "a list of tokens";

    fn of(value: &Value) -> Option<Self> {
        let tokens = value.as_array()?.iter().map(|token| Token::of(token).map(|Token(text)| text));
        tokens.collect::<Option<_>>().map(Self)
    }
}

impl Tokenizer {
    /// Tokens of a text, where its encoder has as many `places`.
    pub(crate) fn max_tokens(&self, places: Option<usize>) -> Result<usize, ImportError> {
        let key = "model_max_length";
        match (self.max_tokens, places) {
            (None, _) => Err(self
                .config
                .wrong(key, "must be a number of tokens that the encoder has places for: 77 for CLIP")),
            (Some(tokens), Some(places)) if tokens > places => {
                let why = format!(
                    "must be at most {places}: the encoder has no more places (max_position_embeddings)"
                );
                Err(self.config.wrong(key, why))
            }
            (Some(tokens), _) => Ok(tokens),
        }
    }
}

/// A bound on what a configuration can make us allocate.
const MAX_TOKENS: f64 = 65_536.0;
const END: &str = "<|endoftext|>";

/// Reads the tokenizer of the part `folder`, which the index says is a `class`.
pub(crate) fn import(
    source: &Source,
    folder: &str,
    class: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Tokenizer, ImportError> {
    let why = "a text encoder needs its tokenizer";
    let config = Keys::read(source, &format!("{folder}/tokenizer_config.json"), why)?;
    let special = check(&config, notes)?;
    let map = format!("{folder}/special_tokens_map.json");
    // Before transformers 4.34 a configuration did not describe its tokens, and this file had the last word.
    let is_old = !config.map().contains_key("added_tokens_decoder") && source.has(&map);
    let map = if is_old { Some(Keys::read(source, &map, why)?) } else { None };
    let special = Special::read(special, &config, map.as_ref(), notes)?;
    let own: Option<String> = config.get("tokenizer_class")?;
    // The class that the index names is the one that diffusers makes.
    let class = class.or(own.as_deref()).unwrap_or_default();
    if !CLASSES.contains(&class) {
        let why = format!("must be {}", CLASSES.join(", "));
        return Err(config.wrong("tokenizer_class", why));
    }
    let json = format!("{folder}/tokenizer.json");
    let mut tokens = if source.has(&json) {
        if class.starts_with("T5") {
            let why = "transformers then makes the tokenizer anew, of spiece.model, which is not done here";
            config.only("add_prefix_space", &Value::Null, why)?;
        }
        Made {
            text: Some(source.text(&json, why)?),
            ..Made::of(Keys::read(source, &json, why)?.into_map(), false)
        }
    } else if source.has(&format!("{folder}/vocab.json")) {
        if !class.starts_with("CLIPTokenizer") {
            return Err(ImportError::wrong(
                config.path(),
                format!(
                    "only a CLIPTokenizer can be made of vocab.json and merges.txt, this is a {class}: save it with a tokenizer.json \
                 (AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(…))"
                ),
            ));
        }
        clip::make(source, folder, class, &special, &config)?
    } else {
        return Err(ImportError::wrong(
            config.path(),
            "has neither tokenizer.json nor vocab.json beside it: save it with a tokenizer.json \
             (AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(…))",
        ));
    };
    tokens.add(&config, &special)?;
    // T5TokenizerFast raises an error.
    let extra = special.additional.iter().filter(|token| token.contains("<extra_id_")).count();
    if class.starts_with("T5")
        && extra > 0
        && config.get("extra_ids")?.is_some_and(|own: usize| own > 0 && own != extra)
    {
        return Err(config.wrong("extra_ids", format!("must be {extra}, as {ADDITIONAL} has them")));
    }
    let is_clip = class.starts_with("CLIPTokenizer");
    let pad = special.named.get("pad_token").map(String::as_str).or(is_clip.then_some(END));
    let pad = pad.ok_or_else(|| config.wrong("pad_token", "must be a token"))?;
    let pad_id = tokens.ids.get(pad).copied();
    let pad_id = pad_id.ok_or_else(|| config.wrong("pad_token", "must be a token of the vocabulary"))?;
    let max_tokens =
        config.get::<f64>("model_max_length")?.filter(|length| (1.0..MAX_TOKENS).contains(length));
    Ok(Tokenizer {
        json: tokens.text.unwrap_or_else(|| Value::Object(tokens.json).to_string()),
        pad_id,
        config,
        max_tokens: max_tokens.map(|length| length as usize),
    })
}

/// Refuses what would change tokens and is not served, and notes what is not known. Gives the descriptions of added tokens.
fn check(config: &Keys, notes: &mut Vec<String>) -> Result<BTreeMap<u32, Map<String, Value>>, ImportError> {
    let read = [
        "model_max_length",
        "tokenizer_class",
        "added_tokens_decoder",
        ADDITIONAL,
        "extra_special_tokens",
        "padding_side",
        "truncation_side",
        "split_special_tokens",
        "add_prefix_space",
        "tokenizer_file",
        "vocab_file",
        "merges_file",
        "add_bos_token",
        "add_eos_token",
        "extra_ids",
    ];
    let inert = INERT.iter().flat_map(|(_, keys)| keys.iter().copied());
    let known: Vec<&str> = read.into_iter().chain(NAMED).chain(inert).collect();
    config.note_others(&known, notes);
    config.only("padding_side", &json!("right"), "texts are padded at their end")?;
    config.only("truncation_side", &json!("right"), "texts are cut at their end")?;
    config.only("split_special_tokens", &json!(false), "special tokens are found in a text as they are")?;
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty) || value == &json!([]);
    if config.has("extra_special_tokens") && !config.map().get("extra_special_tokens").is_some_and(is_empty) {
        return Err(
            config.wrong("extra_special_tokens", "must be {}: tokens with tasks of their own are not served")
        );
    }
    for key in ["tokenizer_file", "vocab_file", "merges_file"] {
        config.only(key, &Value::Null, "files are those of the folder")?;
    }
    for key in ["add_bos_token", "add_eos_token"] {
        config.only(key, &Value::Null, "where a text begins and ends, tokenizer.json says")?;
    }
    let mut added = BTreeMap::new();
    for (id, token) in
        config.map().get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten()
    {
        let described = id.parse().ok().zip(token.as_object().filter(|_| Token::of(token).is_some()));
        let Some((id, token)) = described else {
            return Err(
                config.wrong("added_tokens_decoder", "must have an id and a described token in each entry")
            );
        };
        added.insert(id, token.clone());
    }
    Ok(added)
}

/// Tokens that are found in a text as they are.
struct Special {
    /// Those with a task.
    named: BTreeMap<&'static str, String>,
    additional: Vec<String>,
    /// Those that are described, by id.
    described: BTreeMap<u32, Map<String, Value>>,
}

impl Special {
    fn read(
        described: BTreeMap<u32, Map<String, Value>>,
        config: &Keys,
        map: Option<&Keys>,
        notes: &mut Vec<String>,
    ) -> Result<Self, ImportError> {
        let mut named = BTreeMap::new();
        let mut additional = Vec::new();
        if let Some(map) = map {
            map.note_others(&[&NAMED[..], &[ADDITIONAL]].concat(), notes);
        }
        for keys in [Some(config), map].into_iter().flatten() {
            for key in NAMED {
                if let Some(Token(text)) = keys.get(key)? {
                    named.insert(key, text);
                }
            }
            if let Some(Tokens(tokens)) = keys.get(ADDITIONAL)? {
                additional.extend(tokens);
            }
        }
        Ok(Self { named, additional, described })
    }
}
