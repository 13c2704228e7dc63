//! A `tokenizer.json` made of the `vocab.json` and `merges.txt` of CLIP.
//!
//! It gives the ids of the `CLIPTokenizer` of transformers without ftfy, which is what pipelines of diffusers have:
//! text is cleaned, CJK characters are set apart, all is lower-cased, words are split by CLIP's pattern (Radford et al., 2021)
//! and joined by byte-pair encoding with `</w>` at the end of a word, between `<|startoftext|>` and `<|endoftext|>`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::made::{Made, added_token, described_token};
use super::{END, Special};
use crate::ImportError;
use crate::keys::Keys;
use crate::source::Source;

/// Words, numbers digit by digit, runs of other signs.
const PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Makes it.
pub(super) fn make(
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
