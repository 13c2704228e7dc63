//! What a text names, and the captions that have it.
//!
//! In "a large zunin in the middle, meadow" that is "zunin". How rare a word is in the knowledge base does not tell names from scenes:
//! among five creatures, "meadow" is as rare as each creature. So a word counts as much as it is likely to be the subject of the
//! captions that have it (`subjects.rs`), and captions about what the text names come before all others, however many words of the
//! scene those share with it.
//!
//! 1. A word of the text weighs as much as it is rare ([`Captions::weigh`]), times how likely it is the subject of a caption.
//! 2. An uncommon word that no caption has stands for the subjects that are one letter off it (Damerau 1964), if there are any, by half: it
//!    may be misspelt, or name something else.
//! 3. A caption matches if the text has a word of its subject or, in a script without spaces, where names are indexed by their parts,
//!    half of it by weight.
//! 4. The captions are put in order one by one. Next comes the one whose words weigh most, where a word that k captions before
//!    it have counts 1 / (1 + k)^2: a text that names two things gets both. Where they weigh the same, one that has what stands beside
//!    the name in the text, beside it, comes first: "red dragon" before "blue dragon".

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use reverie_knowledge::Hit;
use tantivy::TantivyError;

use crate::bm25::{Allowed, Captions};
use crate::common::{Reading, Uncommon, read};
use crate::entries::Entries;
use crate::shares::longest;
use crate::subjects::Subjects;
use crate::words::{Run, is_part, runs, words};

/// The most words of a text that captions are looked up by; the weightiest come first.
const MAX_LOOKUPS: usize = 16;
/// Words that weigh less than this share of the weightiest name nothing beside it.
const NEGLIGIBLE: f64 = 0.05;
/// The shortest word that may be misspelt, letters: of shorter ones too many are one letter off.
const SHORTEST_MISSPELT: usize = 4;
/// The share of a subject in a script without spaces that a text must have.
const SUFFICIENT: f64 = 0.5;
/// How likely a word that no caption has would be the subject, if one had it.
const UNSEEN: f64 = 0.5;

/// What a name weighs that the text has but for a letter.
const MISSPELT: f64 = 0.5;

/// A word of a text that no caption has, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misspelt {
    pub(crate) word: String,
    /// Subjects of captions that are one letter off it, in alphabetical order.
    pub(crate) read_as: Vec<String>,
}

/// A caption about something that a text names.
#[derive(Debug)]
pub(crate) struct Match {
    /// Position in the knowledge base's entry list.
    pub(crate) key: u64,
    /// Share of what the text names, by weight, that the caption has: above 0, at most 1.
    pub(crate) share: f32,
    /// The caption's subject, as far as the text has it.
    pub(crate) words: Vec<String>,
    /// Which of the weighed words, and then of the weighed pairs, it has.
    has: Vec<bool>,
    /// How rare the words are that stand beside its subject in the text as in the caption.
    beside: f64,
}

/// Where names are looked for.
pub(crate) struct Base<'a> {
    pub(crate) captions: &'a Captions,
    pub(crate) subjects: &'a Subjects,
    /// A caption's key is one of these.
    pub(crate) entries: &'a Entries,
}

/// What a text names, and which captions are about it.
#[derive(Debug)]
pub(crate) struct Named {
    /// Of the words that captions have, and of pairs of them.
    weights: Vec<f64>,
    /// In no order.
    matches: Vec<Match>,
    /// What the text names and no caption has, in the order of the text.
    pub(crate) unmatched: Vec<String>,
    /// What it names and no caption has, either, but for a letter.
    pub(crate) misspelt: Vec<Misspelt>,
    /// BM25 of the matches, by all words of the text, best first.
    pub(crate) by_words: Vec<Hit>,
}

impl Named {
    /// Looks in the captions of `base` for what `text` names; none if it names nothing. By each word, the `limit` captions that fit
    /// the text best are considered. Only `allowed` entries match. Blocking.
    pub(crate) fn find(
        base: &Base<'_>,
        text: &str,
        limit: usize,
        allowed: &Allowed,
    ) -> Result<Option<Self>, TantivyError> {
        let Some(names) = Names::read(base, text, limit)? else { return Ok(None) };
        let found = names.look_up(base, text, limit, allowed)?;
        // It may well name what is not allowed.
        let names_nothing = found.is_empty()
            && names.unmatched.is_empty()
            && (allowed.is_none() || names.look_up(base, text, limit, &None)?.is_empty());
        if names_nothing {
            return Ok(None);
        }
        let (matches, mut by_words): (_, Vec<Hit>) = found.into_iter().unzip();
        by_words.sort_by(Hit::best_first);
        let weights = names.weighed.iter().map(|(_, weight)| *weight);
        let weights = weights.chain(names.of_two.iter().map(|(_, weight)| *weight)).collect();
        let Names { unmatched, misspelt, .. } = names;
        Ok(Some(Self { weights, matches, unmatched, misspelt, by_words }))
    }

    /// The best `limit` matches, in order. Of those alike in what they name, `ties`, best first, decides; what is
    /// not in there comes last.
    pub(crate) fn rank(&self, ties: &[Hit], limit: usize) -> Vec<&Match> {
        let places: BTreeMap<u64, usize> =
            ties.iter().zip(0..).map(|(hit, place)| (hit.key, place)).collect();
        let place = |found: &Match| places.get(&found.key).copied().unwrap_or(usize::MAX);
        let mut left: Vec<&Match> = self.matches.iter().collect();
        left.sort_by(|one, other| {
            let places = (place(one), one.key).cmp(&(place(other), other.key));
            other.beside.total_cmp(&one.beside).then(places)
        });
        let mut counts = vec![1.0; self.weights.len()];
        let mut ranked = Vec::new();
        while ranked.len() < limit && !left.is_empty() {
            let gain = |found: &Match| -> f64 {
                let words = self.weights.iter().zip(&found.has).zip(&counts);
                words.filter(|((_, has), _)| **has).map(|((weight, _), count)| weight / (count * count)).sum()
            };
            // The first of the best: sums of the same numbers are equal to the last bit.
            let best =
                (0..left.len()).reduce(|best, other| match gain(left[other]).total_cmp(&gain(left[best])) {
                    Ordering::Greater => other,
                    _ => best,
                });
            let Some(best) = best else { break };
            let found = left.remove(best);
            for (count, has) in counts.iter_mut().zip(&found.has) {
                *count += f64::from(u8::from(*has));
            }
            ranked.push(found);
        }
        ranked
    }
}

/// The words by which a text names things.
struct Names {
    /// The words that captions have, with what they weigh, the weightiest first.
    weighed: Vec<(String, f64)>,
    /// What captions lack of them, in the order of the text.
    unmatched: Vec<String>,
    /// What captions have of them but for a letter.
    misspelt: Vec<Misspelt>,
    /// What all of these weigh together.
    total: f64,
    /// All words that stand side by side in the text.
    pairs: HashSet<(String, String)>,
    /// Two uncommon words side by side, such as "rose dragon", are more than either.
    of_two: Vec<((String, String), f64)>,
}

impl Names {
    /// What `text` names by its words; none if they are all common, or no caption is about them.
    fn read(base: &Base<'_>, text: &str, limit: usize) -> Result<Option<Self>, TantivyError> {
        let Reading { words: read, uncommon } = read(text);
        if uncommon.is_empty() {
            return Ok(None);
        }
        let mut weighed = Vec::new();
        // Not by common words alone: they are what it says of something that all captions are about.
        let mut has_names = false;
        for (word, is_common) in read {
            if let Some(weight) = base.weigh(&word)? {
                has_names |= !is_common;
                weighed.push((word, weight));
            }
        }
        let (mut unmatched, mut misspelt, mut missing) = (Vec::new(), Vec::new(), 0.0);
        for word in &uncommon {
            if base.has(word)? {
                continue;
            }
            has_names = true;
            let near = match word {
                Uncommon::Word(word) if unmatched.len() + misspelt.len() < MAX_LOOKUPS => {
                    base.near(word, limit)?
                }
                _ => BTreeSet::new(),
            };
            if near.is_empty() {
                let written = match word {
                    Uncommon::Word(word) => word.clone(),
                    Uncommon::Characters(characters) => characters.concat(),
                };
                missing += base.captions.weigh(&written)?.0 * UNSEEN;
                unmatched.push(written);
                continue;
            }
            let mut most = 0.0_f64;
            for near in &near {
                if let (Some(weight), true) =
                    (base.weigh(near)?, weighed.iter().all(|(word, _)| word != near))
                {
                    weighed.push((near.clone(), MISSPELT * weight));
                    most = most.max(weight);
                }
            }
            missing += (1.0 - MISSPELT) * most;
            if let Uncommon::Word(word) = word {
                misspelt.push(Misspelt { word: word.clone(), read_as: near.into_iter().collect() });
            }
        }
        if !has_names {
            return Ok(None);
        }
        weighed.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let most = weighed.first().map_or(0.0, |(_, weight)| *weight);
        weighed.retain(|(_, weight)| *weight >= NEGLIGIBLE * most);
        let total = weighed.iter().map(|(_, weight)| weight).sum::<f64>() + missing;
        let pairs = pairs(text);
        let rare: HashSet<&String> = uncommon.iter().filter_map(Uncommon::word).collect();
        let weight_of = |word: &String| {
            weighed.iter().find(|(known, _)| known == word).map_or(0.0, |(_, weight)| *weight)
        };
        let of_two = pairs
            .iter()
            .filter(|(one, other)| rare.contains(one) && rare.contains(other))
            .map(|pair| (pair.clone(), weight_of(&pair.0) + weight_of(&pair.1)))
            .collect();
        Ok(Some(Self { weighed, unmatched, misspelt, total, pairs, of_two }))
    }

    fn has(&self, word: &str) -> bool {
        self.weighed.iter().any(|(known, _)| known == word)
    }

    /// The captions of `allowed` entries that are about something of it, in no order, each with its BM25 by all words of `text`.
    fn look_up(
        &self,
        base: &Base<'_>,
        text: &str,
        limit: usize,
        allowed: &Allowed,
    ) -> Result<Vec<(Match, Hit)>, TantivyError> {
        let mut candidates = BTreeMap::new();
        for (word, _) in self.weighed.iter().take(MAX_LOOKUPS) {
            for hit in base.captions.search_having(word, text, limit, allowed)? {
                candidates.insert(hit.key, hit);
            }
        }
        let mut found = Vec::new();
        for (key, hit) in candidates {
            if let Some(matched) = self.compare(base, key)? {
                found.push((matched, hit));
            }
        }
        Ok(found)
    }

    /// The caption of the entry `key`, if it is about something of it.
    fn compare(&self, base: &Base<'_>, key: u64) -> Result<Option<Match>, TantivyError> {
        let Some(caption) = base.caption(key) else { return Ok(None) };
        let subject = base.subjects.of_caption(&caption.words);
        let (parts, wholes): (Vec<&str>, Vec<&str>) = subject.iter().partition(|word| is_part(word));
        let weigh = |words: &mut dyn Iterator<Item = &&str>| -> Result<f64, TantivyError> {
            words.map(|word| Ok(base.weigh(word)?.unwrap_or_default())).sum()
        };
        let has_parts = weigh(&mut parts.iter().filter(|part| self.has(part)))?;
        let is_about_it = wholes.iter().any(|word| self.has(word))
            || (has_parts > 0.0 && has_parts >= SUFFICIENT * weigh(&mut parts.iter())?);
        if !is_about_it {
            return Ok(None);
        }
        let words = longest(subject.into_iter().filter(|word| self.has(word)));
        let mut beside = 0.0;
        for (one, other) in self.pairs.iter().filter(|pair| caption.pairs.contains(pair)) {
            for (word, neighbour) in [(one, other), (other, one)] {
                if words.contains(word) {
                    beside += base.captions.weigh(neighbour)?.0;
                }
            }
        }
        let mut has: Vec<bool> = self.weighed.iter().map(|(word, _)| caption.words.contains(word)).collect();
        let share = self.weighed.iter().zip(&has).filter(|(_, has)| **has).map(|((_, weight), _)| weight);
        let share = (share.sum::<f64>() / self.total) as f32;
        has.extend(self.of_two.iter().map(|(pair, _)| caption.pairs.contains(pair)));
        Ok(Some(Match { key, share, words, has, beside }))
    }
}

impl Base<'_> {
    /// How much a word of a text counts; none if no caption is about it.
    fn weigh(&self, word: &str) -> Result<Option<f64>, TantivyError> {
        let likelihood = f64::from(self.subjects.likelihood(word));
        if likelihood > 0.0 { Ok(Some(self.captions.weigh(word)?.0 * likelihood)) } else { Ok(None) }
    }

    /// Whether a caption has the word or, of a row of characters, two that stand together.
    fn has(&self, word: &Uncommon) -> Result<bool, TantivyError> {
        let parts: Vec<String> = match word {
            Uncommon::Word(word) => vec![word.clone()],
            Uncommon::Characters(characters) => {
                characters.windows(2.min(characters.len())).map(<[_]>::concat).collect()
            }
        };
        for part in parts {
            if self.captions.weigh(&part)?.1 > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The subjects of captions that are one letter off `word`.
    fn near(&self, word: &str, limit: usize) -> Result<BTreeSet<String>, TantivyError> {
        let mut near = BTreeSet::new();
        if word.chars().count() < SHORTEST_MISSPELT {
            return Ok(near);
        }
        for hit in self.captions.search_near(word, limit)? {
            let Some(caption) = self.caption(hit.key) else { continue };
            let subject = self.subjects.of_caption(&caption.words);
            near.extend(subject.into_iter().filter(|found| is_one_edit(word, found)).map(str::to_owned));
        }
        Ok(near)
    }

    fn caption(&self, key: u64) -> Option<Caption> {
        let text = &self.entries.get(key)?.caption;
        Some(Caption { words: words(text).into_iter().collect(), pairs: pairs(text) })
    }
}

/// A caption as names are looked for in it.
struct Caption {
    words: HashSet<String>,
    pairs: HashSet<(String, String)>,
}

/// The words of a text that stand side by side, of scripts that separate words.
fn pairs(text: &str) -> HashSet<(String, String)> {
    let runs = runs(text);
    let pair = |pair: &[Run]| match pair {
        [Run::Word(one), Run::Word(other)] => Some((one.clone(), other.clone())),
        _ => None,
    };
    runs.windows(2).filter_map(pair).collect()
}

/// Whether one letter more, less or other, or two in the other order, make `one` into `other`.
fn is_one_edit(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let alike = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let (one, other) = (&one[alike..], &other[alike..]);
    match one.len().cmp(&other.len()) {
        Ordering::Less => one == &other[1..],
        Ordering::Greater => &one[1..] == other,
        Ordering::Equal if one.len() < 2 => !one.is_empty(),
        Ordering::Equal => {
            one[1..] == other[1..] || (one[0] == other[1] && one[1] == other[0] && one[2..] == other[2..])
        }
    }
}

#[cfg(test)]
mod tests;
