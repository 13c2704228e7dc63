//! A `tokenizer.json`, and the tokens that a configuration adds to it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ADDITIONAL, Special, Token};
use crate::ImportError;
use crate::keys::{Held as _, Keys};

/// A tokenizer.json, and the ids of its tokens.
pub(super) struct Made {
    pub(super) json: Map<String, Value>,
    /// It, as it came, as long as nothing is added to it.
    pub(super) text: Option<String>,
    pub(super) ids: BTreeMap<String, u32>,
    /// Whether it is one of the tokenizers in Python, which find all added tokens in the text as it came.
    pub(super) is_slow: bool,
}

impl Made {
    pub(super) fn of(json: Map<String, Value>, is_slow: bool) -> Self {
        let ids = ids(&json);
        Self { json, text: None, ids, is_slow }
    }

    /// Adds the tokens that a configuration names besides, as transformers does when it loads a tokenizer: only those that
    /// the model has an id for.
    pub(super) fn add(&mut self, config: &Keys, special: &Special) -> Result<(), ImportError> {
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

/// A token that a configuration describes.
pub(super) fn described_token(id: u32, token: &Map<String, Value>, is_slow: bool) -> Value {
    let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
    let special = is(token, "special");
    let mut made = added_token(id, content, special, token);
    if !is_slow {
        made["normalized"] = json!(token.get("normalized").and_then(Value::as_bool).unwrap_or(!special));
    }
    made
}

pub(super) fn added_token(id: u32, content: &str, special: bool, rest: &Map<String, Value>) -> Value {
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
