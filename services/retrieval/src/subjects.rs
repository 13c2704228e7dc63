//! Which words of captions name what the pictures show, learnt from the captions alone.
//!
//! A caption has a subject, and says things of it that other captions say too. In "a large zunin on the left, meadow" the subject may be
//! "zunin" or "meadow"; but "a zunin seen close up" has no other word that could be it, so zunin is what the first one shows too. This
//! is the model, fitted by expectation maximisation (Dempster, Laird & Rubin 1977):
//!
//! - Each caption has one subject among its words. A word w is it with a probability proportional to t(w) idf(w), and a common one
//!   ([`read`]) with [`COMMON`] times that.
//! - t(w) is how often w is the subject of the captions that have it. It starts at 1; after each pass it is the sum of its probabilities
//!   over its n captions, divided by n + 1.
//!
//! It works in any language and needs no list of names. What it takes are several captions, and some that say little.

use std::collections::{HashMap, HashSet};

use roaring::RoaringBitmap;

use crate::bm25::weight;
use crate::common::read;

/// A word that more than this share of the captions have is not a subject.
const LARGEST_SHARE: f64 = 0.75;
/// How likely a common word is the subject, in comparison with an uncommon one.
const COMMON: f64 = 0.01;
/// Passes over all captions.
const PASSES: usize = 30;
/// A word is a subject of its caption if it is at least this likely, in comparison with the likeliest one.
const COMPARABLE: f32 = 0.5;

/// Captions as they are learnt from.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    words: Vec<String>,
    /// Of each caption, its words and whether each is common.
    captions: Vec<Box<[(u32, bool)]>>,
}

impl Tokens {
    /// What [`Tokens::read`] gave before.
    pub(crate) fn new(words: Vec<String>, captions: Vec<Box<[(u32, bool)]>>) -> Self {
        Self { words, captions }
    }

    /// The different words of all captions.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Of each caption, the places of its words among the different ones, and whether each is common.
    pub(crate) fn captions(&self) -> &[Box<[(u32, bool)]>] {
        &self.captions
    }

    /// Reads captions. Blocking.
    pub(crate) fn read<'a>(captions: impl Iterator<Item = &'a str>) -> Self {
        let (mut tokens, mut numbers) = (Self::default(), HashMap::new());
        for caption in captions {
            let mut read_words = Vec::new();
            for (word, is_common) in read(caption).words {
                let number = *numbers.entry(word).or_insert_with_key(|word| {
                    tokens.words.push(word.clone());
                    tokens.words.len() as u32 - 1
                });
                read_words.push((number, is_common));
            }
            tokens.captions.push(read_words.into());
        }
        tokens
    }
}

/// How likely words are to be the subject.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    likelihoods: HashMap<String, f32>,
}

impl Subjects {
    /// Learns from captions. The same captions give the same likelihoods. Blocking.
    #[cfg(test)]
    pub(crate) fn learn<'a>(captions: impl Iterator<Item = &'a str>) -> Self {
        Self::learn_from([(&Tokens::read(captions), &RoaringBitmap::new())])
    }

    /// Learns from the captions of all segments, each with the positions of those that are deleted. Blocking.
    pub(crate) fn learn_from<'a>(parts: impl IntoIterator<Item = (&'a Tokens, &'a RoaringBitmap)>) -> Self {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut counts: Vec<u64> = Vec::new();
        let mut texts: Vec<Vec<(usize, bool)>> = Vec::new();
        for (tokens, deleted) in parts {
            let mut known: Vec<Option<usize>> = vec![None; tokens.words.len()];
            for (position, caption) in (0..).zip(&tokens.captions) {
                if deleted.contains(position) {
                    continue;
                }
                let text = caption.iter().map(|&(word, is_common)| {
                    let number = *known[word as usize].get_or_insert_with(|| {
                        let next = numbers.len();
                        *numbers.entry(tokens.words[word as usize].as_str()).or_insert(next)
                    });
                    if number == counts.len() {
                        counts.push(0);
                    }
                    counts[number] += 1;
                    (number, is_common)
                });
                texts.push(text.collect());
            }
        }
        let size = crate::bm25::size(texts.len() as u64);
        let idf: Vec<f64> = counts.iter().map(|&count| weight(count, size)).collect();
        let is_rare: Vec<bool> =
            counts.iter().map(|&count| count as f64 <= LARGEST_SHARE * texts.len() as f64).collect();
        for text in &mut texts {
            text.retain(|&(word, _)| is_rare[word]);
        }
        let mut likelihoods = vec![1.0; counts.len()];
        for _ in 0..PASSES {
            let mut sums = vec![0.0; counts.len()];
            for text in &texts {
                let of = |&(word, is_common): &(usize, bool)| {
                    likelihoods[word] * idf[word] * if is_common { COMMON } else { 1.0 }
                };
                let all: f64 = text.iter().map(of).sum();
                if all > 0.0 {
                    for word in text {
                        sums[word.0] += of(word) / all;
                    }
                }
            }
            for ((likelihood, sum), count) in likelihoods.iter_mut().zip(sums).zip(&counts) {
                *likelihood = sum / (*count as f64 + 1.0);
            }
        }
        let likely = numbers.into_iter().filter(|&(_, number)| is_rare[number]);
        let likelihoods = likely.map(|(word, number)| (word.to_owned(), likelihoods[number] as f32));
        Self { likelihoods: likelihoods.collect() }
    }

    /// How likely a caption that has `word` is about it, 0 to 1; 0 for words that no caption has, and for those of many.
    pub(crate) fn likelihood(&self, word: &str) -> f32 {
        self.likelihoods.get(word).copied().unwrap_or_default()
    }

    /// Those words of a caption that may be its subject.
    pub(crate) fn of_caption<'a>(&self, words: &'a HashSet<String>) -> HashSet<&'a str> {
        let most = words.iter().map(|word| self.likelihood(word)).fold(0.0, f32::max);
        let is_comparable = |word: &&str| most > 0.0 && self.likelihood(word) >= COMPARABLE * most;
        words.iter().map(String::as_str).filter(is_comparable).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_told_from_scenes_without_a_list_of_either() {
        // In no language.
        let captions = [
            "vo zunin ka meduvo",
            "vo zunin",
            "vo zunin ka sneko",
            "vo leka ka sneko",
            "vo leka",
            "vo leka ka meduvo",
            "vo paru ka meduvo",
            "vo paru ka sneko",
            "vo paru",
        ];
        let subjects = Subjects::learn(captions.into_iter());
        for name in ["zunin", "leka", "paru"] {
            assert!(subjects.likelihood(name) > 0.6, "{name}: {}", subjects.likelihood(name));
        }
        for other in ["meduvo", "sneko"] {
            assert!(subjects.likelihood(other) < 0.1, "{other}: {}", subjects.likelihood(other));
        }
        let words = ["vo", "zunin", "ka", "sneko"].map(str::to_owned).into();
        assert_eq!(subjects.of_caption(&words), ["zunin"].into());
    }

    #[test]
    fn no_captions_have_no_subjects() {
        let subjects = Subjects::learn(["", "?!"].into_iter());
        assert!(subjects.likelihoods.is_empty());
        assert!(subjects.of_caption(&["a".to_owned()].into()).is_empty());
    }
}
