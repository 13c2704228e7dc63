//! How much of a text a caption has.

use std::collections::HashSet;

use tantivy::TantivyError;

use crate::bm25::Captions;
use crate::words::words;

/// The different words of a text, each with its weight.
#[derive(Default)]
pub(crate) struct Shares {
    words: Vec<(String, f64)>,
}

impl Shares {
    /// Weighs the words of `text` in `captions` ([`Captions::weigh`]). Blocking.
    pub(crate) fn of(text: &str, captions: &Captions) -> Result<Self, TantivyError> {
        let mut known = HashSet::new();
        let different = words(text).into_iter().filter(|word| known.insert(word.clone()));
        let weigh = |word: String| captions.weigh(&word).map(|(weight, _)| (word, weight));
        Ok(Self { words: different.map(weigh).collect::<Result<_, _>>()? })
    }

    /// The share of the text, 0 to 1 by weight, that `caption` has, and the words that both have.
    pub(crate) fn in_caption(&self, caption: &str) -> (f32, Vec<String>) {
        let caption: HashSet<String> = words(caption).into_iter().collect();
        let found: Vec<&(String, f64)> =
            self.words.iter().filter(|(word, _)| caption.contains(word)).collect();
        let sum = |words: &mut dyn Iterator<Item = f64>| words.sum::<f64>();
        let all = sum(&mut self.words.iter().map(|(_, weight)| *weight));
        let share = sum(&mut found.iter().map(|(_, weight)| *weight)) / all;
        let told = longest(found.iter().map(|(word, _)| word.as_str()));
        (if share.is_finite() { share as f32 } else { 0.0 }, told)
    }
}

/// Those of `words` that are no part of another: of a script without spaces, the longest parts say what was found.
pub(crate) fn longest<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let words: Vec<&str> = words.collect();
    let is_part = |word: &str| words.iter().any(|longer| longer.len() > word.len() && longer.contains(word));
    let mut longest: Vec<String> =
        words.iter().filter(|word| !is_part(word)).map(|word| (*word).to_owned()).collect();
    longest.sort_unstable();
    longest
}
