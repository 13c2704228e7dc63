//! Tokenizers: `tokenizer.json` as it is, or one made of the `vocab.json` and `merges.txt` of CLIP.
//!
//! The latter gives the ids of the `CLIPTokenizer` of transformers without ftfy, which is what pipelines of diffusers have:
//! text is cleaned, CJK characters are set apart, all is lower-cased, words are split by CLIP's pattern (Radford et al., 2021)
//! and joined by byte-pair encoding with `</w>` at the end of a word, between `<|startoftext|>` and `<|endoftext|>`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::ImportError;
use crate::keys::{Held, Keys};
use crate::source::Source;

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
/// Words, numbers digit by digit, runs of other signs.
const PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

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
        clip(source, folder, class, &special, &config)?
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

/// A tokenizer.json, and the ids of its tokens.
struct Made {
    json: Map<String, Value>,
    /// It, as it came, as long as nothing is added to it.
    text: Option<String>,
    ids: BTreeMap<String, u32>,
    /// Whether it is one of the tokenizers in Python, which find all added tokens in the text as it came.
    is_slow: bool,
}

impl Made {
    fn of(json: Map<String, Value>, is_slow: bool) -> Self {
        let ids = ids(&json);
        Self { json, text: None, ids, is_slow }
    }

    /// Adds the tokens that a configuration names besides, as transformers does when it loads a tokenizer: only those that
    /// the model has an id for.
    fn add(&mut self, config: &Keys, special: &Special) -> Result<(), ImportError> {
        let added = self.json.entry("added_tokens").or_insert_with(|| json!([]));
        let mut known: Vec<String> = added
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|token| Token::of(token).map(|Token(text)| text))
            .collect();
        let mut new = Vec::new();
        for (id, token) in &special.described {
            let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
            match self.ids.get(content) {
                Some(own) if own != id => {
                    let why = format!("must have {content:?} at {own}, which is its id in the vocabulary");
                    return Err(config.wrong("added_tokens_decoder", why));
                }
                // Transformers gives it the id after the last one.
                None if self.ids.values().max().is_some_and(|last| last + 1 != *id) => {
                    let why = format!("must have {content:?} at the id after the last one of the vocabulary");
                    return Err(config.wrong("added_tokens_decoder", why));
                }
                _ => {}
            }
            self.ids.insert(content.to_owned(), *id);
            if !known.iter().any(|known| known == content) {
                known.push(content.to_owned());
                new.push(described_token(*id, token, self.is_slow));
            }
        }
        let named = special.named.iter().map(|(key, text)| (*key, text));
        for (key, text) in named.chain(special.additional.iter().map(|text| (ADDITIONAL, text))) {
            let Some(id) = self.ids.get(text) else {
                return Err(config.wrong(key, format!("must be of the vocabulary, and {text:?} is not")));
            };
            if !known.contains(text) {
                known.push(text.clone());
                new.push(added_token(*id, text, true, &Map::new()));
            }
        }
        if let (Some(added), false) = (added.as_array_mut(), new.is_empty()) {
            added.extend(new);
            added.sort_by_key(|token| token["id"].as_u64());
            self.text = None;
        }
        Ok(())
    }
}

fn is(token: &Map<String, Value>, key: &str) -> bool {
    token.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// The ids of the tokens of a tokenizer.json: of its model, and those that it adds.
fn ids(json: &Map<String, Value>) -> BTreeMap<String, u32> {
    let id =
        |token: &Value, id: &Value| Some((token.as_str()?.to_owned(), u32::try_from(id.as_u64()?).ok()?));
    let vocabulary = json.get("model").and_then(|model| model.get("vocab"));
    let mut ids: BTreeMap<String, u32> = match vocabulary {
        Some(Value::Object(vocabulary)) => {
            vocabulary.iter().filter_map(|(token, number)| id(&json!(token), number)).collect()
        }
        // Unigram: pairs of a token and its score.
        Some(Value::Array(vocabulary)) => vocabulary
            .iter()
            .enumerate()
            .filter_map(|(number, pair)| id(pair.get(0)?, &json!(number)))
            .collect(),
        _ => BTreeMap::new(),
    };
    let added = json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    ids.extend(added.filter_map(|token| id(token.get("content")?, token.get("id")?)));
    ids
}

fn clip(
    source: &Source,
    folder: &str,
    class: &str,
    special: &Special,
    config: &Keys,
) -> Result<Made, ImportError> {
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
    let named = |key: &str, default: &str| -> Result<(String, u32), ImportError> {
        let text = special.named.get(key).map_or(default, String::as_str);
        let described =
            special.described.iter().find(|(_, token)| token.get("content") == Some(&json!(text)));
        let id = described.map(|(id, _)| *id).or_else(|| vocabulary.get(text).copied());
        let id = id.ok_or_else(|| wrong(format!("has no token {text:?}, which is the {key}")))?;
        Ok((text.to_owned(), id))
    };
    let start = named("bos_token", "<|startoftext|>")?;
    let end = named("eos_token", END)?;
    let unknown = named("unk_token", END)?;
    let pad = named("pad_token", END)?;
    let mut added: BTreeMap<u32, Value> = BTreeMap::new();
    for (content, id) in [&start, &end, &unknown, &pad] {
        added.insert(*id, added_token(*id, content, true, &Map::new()));
    }
    // Tokens that someone taught the encoder (textual inversion) are among the others.
    let legacy = format!("{folder}/added_tokens.json");
    if !config.map().contains_key("added_tokens_decoder") && source.has(&legacy) {
        let legacy = Keys::read(source, &legacy, why)?;
        for content in legacy.map().keys() {
            let id = legacy.need(&[content])?;
            added.insert(id, added_token(id, content, false, &Map::new()));
        }
    }
    let is_slow = !class.ends_with("Fast");
    for (id, token) in &special.described {
        added.insert(*id, described_token(*id, token, is_slow));
    }
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.into_values().collect::<Vec<_>>(),
        "normalizer": {
            "type": "Sequence",
            "normalizers": if is_slow { normalizers() } else { fast_normalizers() },
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
    let Value::Object(json) = json else { return Err(wrong("has no tokens".to_owned())) };
    Ok(Made::of(json, is_slow))
}

/// What the `CLIPTokenizer` of transformers does to a text, without ftfy.
fn normalizers() -> Value {
    json!([
        {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": false,
            "lowercase": false,
        },
        {"type": "NFC"},
        {"type": "Lowercase"},
    ])
}

/// What `CLIPTokenizerFast` does.
fn fast_normalizers() -> Value {
    json!([
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ])
}

/// A token that a configuration describes.
fn described_token(id: u32, token: &Map<String, Value>, is_slow: bool) -> Value {
    let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
    let special = is(token, "special");
    let mut made = added_token(id, content, special, token);
    if !is_slow {
        made["normalized"] = json!(token.get("normalized").and_then(Value::as_bool).unwrap_or(!special));
    }
    made
}

fn added_token(id: u32, content: &str, special: bool, rest: &Map<String, Value>) -> Value {
    json!({
        "id": id,
        "content": content,
        "single_word": is(rest, "single_word"),
        "lstrip": is(rest, "lstrip"),
        "rstrip": is(rest, "rstrip"),
        // They are found in the text as it came, upper and lower case apart.
        "normalized": false,
        "special": special,
    })
}
