//! Words that captions of anything have (`words/common.txt`): "a", "small", "meadow", "photo". A text that has them says how and where
//! something is shown; what is shown is in its other words.
//!
//! The words of one language may be names in another ("luna", "rose"), so a text is read in the language that most of its words
//! are common in.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::words::{Run, gram_ranges, is_ideograph, runs};

static COMMON: LazyLock<CommonWords> =
    LazyLock::new(|| CommonWords::parse(include_str!("../words/common.txt")));

/// A set of languages, one bit for each.
type Languages = u32;

/// The common words of every language.
#[derive(Debug, Default)]
struct CommonWords {
    /// Languages of a whole word.
    whole: HashMap<String, Languages>,
    /// Languages of the beginning of a word.
    stems: HashMap<String, Languages>,
    /// How many languages there are.
    count: u32,
    /// Languages with words in a script without spaces.
    unspaced: Languages,
    /// Characters of the longest of those words.
    longest: usize,
}

/// The most uncommon words of a text that are told; what a text names stands at its beginning.
const MAX_UNCOMMON: usize = 64;
/// The longest ending that a word has after a stem, characters.
const LONGEST_ENDING: usize = 3;

/// A text, word by word.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// What captions are indexed by (`words.rs`), each once; whether it is common.
    pub(crate) words: Vec<(String, bool)>,
    /// What is not common, each once; the first [`MAX_UNCOMMON`].
    pub(crate) uncommon: Vec<Uncommon>,
}

/// What a text says beside its common words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uncommon {
    /// A word.
    Word(String),
    /// Characters in a row of a script without spaces.
    Characters(Vec<String>),
}

impl Uncommon {
    pub(crate) fn word(&self) -> Option<&String> {
        match self {
            Self::Word(word) => Some(word),
            Self::Characters(_) => None,
        }
    }
}

/// Reads `text`.
pub(crate) fn read(text: &str) -> Reading {
    let common = &*COMMON;
    let runs = runs(text);
    let language = common.language(&runs);
    let mut reading = Reading::default();
    let mut places = HashMap::new();
    for run in runs {
        match run {
            Run::Word(word) => {
                // Numbers and single letters number things.
                let says_little = word.chars().nth(1).is_none() || word.chars().all(char::is_numeric);
                let is_common = says_little || common.languages(&word) & language != 0;
                if !is_common {
                    reading.add_uncommon(Uncommon::Word(word.clone()));
                }
                reading.add(&mut places, word, is_common);
            }
            Run::Unspaced(characters) => {
                let covered = common.covered(&characters, language);
                for part in gram_ranges(characters.len()) {
                    // A single letter says as little as one of another script.
                    let is_letter = part.len() == 1 && !is_ideograph(&characters[part.start]);
                    let is_common = is_letter || covered[part.clone()].iter().all(|covered| *covered);
                    reading.add(&mut places, characters[part].concat(), is_common);
                }
                let mut start = 0;
                for stretch in covered.chunk_by(|one, other| one == other) {
                    let at = start..start + stretch.len();
                    start = at.end;
                    let says_little = at.len() == 1 && !is_ideograph(&characters[at.start]);
                    if !stretch[0] && !says_little {
                        reading.add_uncommon(Uncommon::Characters(characters[at].to_vec()));
                    }
                }
            }
        }
    }
    reading
}

impl Reading {
    /// `places` has where in `words` a word stands.
    fn add(&mut self, places: &mut HashMap<String, usize>, word: String, is_common: bool) {
        if let Some(&place) = places.get(&word) {
            self.words[place].1 &= is_common;
        } else {
            places.insert(word.clone(), self.words.len());
            self.words.push((word, is_common));
        }
    }

    fn add_uncommon(&mut self, word: Uncommon) {
        if self.uncommon.len() < MAX_UNCOMMON && !self.uncommon.contains(&word) {
            self.uncommon.push(word);
        }
    }
}

impl CommonWords {
    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        let mut language = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with('[') {
                language = 1 << parsed.count;
                parsed.count += 1;
                continue;
            }
            for entry in line.split_whitespace() {
                let is_stem = entry.ends_with('*');
                for run in runs(entry) {
                    match run {
                        Run::Word(word) if is_stem => *parsed.stems.entry(word).or_default() |= language,
                        Run::Word(word) => *parsed.whole.entry(word).or_default() |= language,
                        Run::Unspaced(characters) => {
                            parsed.longest = parsed.longest.max(characters.len());
                            parsed.unspaced |= language;
                            *parsed.whole.entry(characters.concat()).or_default() |= language;
                        }
                    }
                }
            }
        }
        parsed
    }

    /// The languages in which `word` is common.
    fn languages(&self, word: &str) -> Languages {
        let ends = [word.len()].into_iter().chain(word.char_indices().rev().map(|(end, _)| end));
        let beginnings = ends.take(1 + LONGEST_ENDING).map(|end| &word[..end]);
        let by_stem =
            beginnings.filter_map(|beginning| self.stems.get(beginning)).fold(0, |all, one| all | one);
        by_stem | self.whole.get(word).copied().unwrap_or_default()
    }

    /// Which of `characters` belong to common words, the longest first.
    fn covered(&self, characters: &[String], language: Languages) -> Vec<bool> {
        let mut covered = vec![false; characters.len()];
        let mut at = 0;
        while at < characters.len() {
            let ends = (at + 1..=characters.len().min(at + self.longest)).rev();
            let is_common = |end: &usize| {
                let word = characters[at..*end].concat();
                self.whole.get(&word).is_some_and(|languages| languages & language != 0)
            };
            let end = ends.into_iter().find(is_common);
            let next = end.unwrap_or(at + 1);
            covered[at..next].fill(end.is_some());
            at = next;
        }
        covered
    }

    /// The language, or languages, in which most of a text is common.
    fn language(&self, runs: &[Run]) -> Languages {
        let mut counts = vec![0; self.count as usize];
        let languages = |set: Languages| (0..self.count).filter(move |language| set & (1 << language) != 0);
        for run in runs {
            match run {
                Run::Word(word) => {
                    for language in languages(self.languages(word)) {
                        counts[language as usize] += 1;
                    }
                }
                Run::Unspaced(characters) => {
                    for language in languages(self.unspaced) {
                        let covered = self.covered(characters, 1 << language);
                        counts[language as usize] += covered.into_iter().filter(|covered| *covered).count();
                    }
                }
            }
        }
        let most = counts.iter().max().copied().unwrap_or_default();
        languages(Languages::MAX)
            .filter(|&one| counts[one as usize] == most)
            .fold(0, |all, one| all | (1 << one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uncommon_of(text: &str) -> Vec<String> {
        let word = |word| match word {
            Uncommon::Word(word) => word,
            Uncommon::Characters(characters) => characters.concat(),
        };
        read(text).uncommon.into_iter().map(word).collect()
    }

    #[test]
    fn what_a_text_names_is_left() {
        for (text, names) in [
            ("a large ZUNIN in the middle, meadow", vec!["zunin"]),
            ("two zunins and a Leka, oil painting, 4k", vec!["zunins", "leka"]),
            ("a rose dragon at sunset", vec!["rose", "dragon"]),
            ("a large luna in the middle, snow", vec!["luna"]),
            ("ein großer Zunin in der Mitte, Wiese", vec!["zunin"]),
            ("маленький зунин слева, на снегу", vec!["зунин"]),
            ("雪原に立つ大きなズニン", vec!["ズニン"]),
            ("一只大的祖宁在草地中央", vec!["祖宁"]),
            ("ซูนินตัวใหญ่ในทุ่งหญ้า", vec!["ซูนิน"]),
            ("a small red creature with horns, snow", vec![]),
            ("Зимбалу у реки, зимой", vec!["зимбалу"]),
            ("", vec![]),
        ] {
            assert_eq!(uncommon_of(text), names, "{text}");
        }
    }

    #[test]
    fn a_name_is_told_once() {
        assert_eq!(uncommon_of("a zunin beside a zunin, no. 12"), ["zunin"]);
    }

    #[test]
    fn parts_of_common_words_are_common() {
        let reading = read("祖宁在雪地");
        let common: Vec<&str> =
            reading.words.iter().filter(|(_, common)| *common).map(|(word, _)| &**word).collect();
        assert_eq!(common, ["在", "在雪", "在雪地", "雪", "雪地", "地"]);
        assert_eq!(reading.words.len(), 12);
    }
}
