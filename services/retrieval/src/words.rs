//! The words of a text, in any language: what captions are indexed by and prompts are searched for.
//!
//! 1. Texts that look alike become equal: Unicode NFKC, case folded, marks that a writer may leave out and characters that
//!    nobody sees are gone.
//! 2. A run of letters, digits and their marks is a word. Anything else separates words.
//! 3. In scripts that are written without spaces (Chinese, Japanese, Thai, Khmer ...), and in Korean, whose particles stick
//!    to the noun, every one, two and three characters in a row are a word: no dictionary knows the names that matter here.

use std::ops::Range;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{
    DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup, LineBreak, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Changes whenever a text has other words, or other ones are common: what was worked out of captions before is worked out anew then.
pub(crate) const VERSION: u32 = 1;

/// The most characters in a row that are a word where there are no spaces.
const LONGEST_GRAM: usize = 3;

/// The words of `text` in order, with repetitions.
pub(crate) fn words(text: &str) -> Vec<String> {
    runs(text).iter().flat_map(Run::words).collect()
}

/// What stands in a text between separators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run {
    /// A word of a script that separates its words.
    Word(String),
    /// Characters in a row, each with its marks, of a script that does not.
    Unspaced(Vec<String>),
}

impl Run {
    /// What it is found by.
    fn words(&self) -> Vec<String> {
        match self {
            Self::Word(word) => vec![word.clone()],
            Self::Unspaced(characters) => {
                gram_ranges(characters.len()).map(|part| characters[part].concat()).collect()
            }
        }
    }
}

/// Every one, two and three of so many characters in a row.
pub(crate) fn gram_ranges(characters: usize) -> impl Iterator<Item = Range<usize>> {
    let from = move |start| (start + 1..=characters.min(start + LONGEST_GRAM)).map(move |end| start..end);
    (0..characters).flat_map(from)
}

/// The runs of `text`, in order.
pub(crate) fn runs(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut open = Open::default();
    for character in folded(text).chars() {
        let kind = Kind::of(character);
        match kind {
            // A mark belongs to the character before it.
            Kind::Mark if !open.characters.is_empty() => open.extend_last(character),
            Kind::Mark | Kind::Separator => open.end(&mut runs),
            Kind::Spaced | Kind::Unspaced => {
                if open.kind != kind {
                    open.end(&mut runs);
                    open.kind = kind;
                }
                open.characters.push(character.to_string());
            }
        }
    }
    open.end(&mut runs);
    runs
}

/// Whether a word is some characters of a text without spaces.
pub(crate) fn is_part(word: &str) -> bool {
    word.chars().next().is_some_and(|first| Kind::of(first) == Kind::Unspaced)
}

/// Whether one character is a whole word as often as not.
pub(crate) fn is_ideograph(character: &str) -> bool {
    let first = character.chars().next();
    first.is_some_and(|first| CodePointMapData::<Script>::new().get(first) == Script::Han)
}

/// What a character is to the words of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// A letter or digit of a script that separates its words.
    Spaced,
    /// A letter of a script that does not.
    Unspaced,
    /// What is written on, below or around a letter.
    Mark,
    #[default]
    Separator,
}

impl Kind {
    fn of(character: char) -> Self {
        if character.is_ascii() {
            return if character.is_ascii_alphanumeric() { Self::Spaced } else { Self::Separator };
        }
        if GeneralCategoryGroup::Mark.contains(CodePointMapData::<GeneralCategory>::new().get(character)) {
            return Self::Mark;
        }
        if !character.is_alphanumeric() {
            return Self::Separator;
        }
        let script = CodePointMapData::<Script>::new().get(character);
        let east_asian = [Script::Han, Script::Hiragana, Script::Katakana, Script::Bopomofo, Script::Hangul];
        // The mark of a long vowel belongs to two scripts, so it has none of its own.
        if character == 'ー' || east_asian.contains(&script) || is_south_east_asian(character) {
            Self::Unspaced
        } else {
            Self::Spaced
        }
    }
}

/// Thai, Lao, Khmer, Burmese and their relatives: lines break between words that only a reader sees.
fn is_south_east_asian(character: char) -> bool {
    CodePointMapData::<LineBreak>::new().get(character) == LineBreak::ComplexContext
}

/// A run that is being read.
#[derive(Debug, Default)]
struct Open {
    kind: Kind,
    characters: Vec<String>,
}

impl Open {
    fn extend_last(&mut self, mark: char) {
        if let Some(last) = self.characters.last_mut() {
            last.push(mark);
        }
    }

    /// Gives out this run and begins a new one.
    fn end(&mut self, runs: &mut Vec<Run>) {
        let Self { kind, characters } = std::mem::take(self);
        if kind == Kind::Unspaced {
            runs.push(Run::Unspaced(characters));
        } else if !characters.is_empty() {
            runs.push(Run::Word(characters.concat()));
        }
    }
}

/// `text` in NFKC, without case, optional marks and invisible characters.
fn folded(text: &str) -> String {
    let normalizer = ComposingNormalizerBorrowed::new_nfkc();
    let invisible = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    // There and back again folds what lower case alone does not: ß and SS, ς and σ, ı and I.
    let folded = normalizer
        .normalize(text)
        .chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .map(|character| if character == ZERO_WIDTH_SPACE { ' ' } else { character })
        .filter(|character| !invisible.contains(*character) && !is_optional_mark(*character))
        .collect::<String>()
        // The lower case of İ.
        .replace("i\u{307}", "i");
    normalizer.normalize(&folded).into_owned()
}

/// Separates words in Thai and Khmer, where someone took the trouble.
const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// The vowel points of Hebrew and Arabic, the signs of chant, and the stroke that stretches Arabic words: most texts do
/// without.
fn is_optional_mark(character: char) -> bool {
    matches!(character,
        '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'..='\u{5c2}' | '\u{5c4}'..='\u{5c5}' | '\u{5c7}'
        | '\u{610}'..='\u{61a}' | '\u{640}' | '\u{64b}'..='\u{652}' | '\u{656}'..='\u{65f}' | '\u{670}'
        | '\u{6d6}'..='\u{6dc}' | '\u{6df}'..='\u{6e4}' | '\u{6e7}'..='\u{6e8}' | '\u{6ea}'..='\u{6ed}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, what is stored of captions is out of date: raise [`VERSION`], and write down the new digest.
    #[test]
    fn what_is_stored_of_captions_is_of_this_version() {
        let entries = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../models/bestiary/knowledge/creatures/segments/000001/entries.jsonl"
        );
        let more = "the naïve fox, ШКОЛА и снег; die Straße im Schnee, ß ẞ; 一只红色的猫在雪地里; 雪の中の赤い猫のマスコット; แมวสีแดงในหิมะ; \
                    눈 속의 고양이가; قِطَّةٌ فِي الثَّلْج; बर्फ़ में बिल्ली; kırmızı bir kedi IŞIK; 3.5 m² №7 ﬁre\u{301} x\u{200d}y e\u{301}te\u{301}";
        let text = format!("{}\n{more}", std::fs::read_to_string(entries).unwrap());
        let read: Vec<String> =
            text.lines().map(|line| format!("{:?}", crate::common::read(line).words)).collect();
        let digest = reverie_storage::sha256_hex(read.join("\n").as_bytes());
        assert_eq!((VERSION, &digest[..16]), (1, "a5ee006e92ee18ce"));
    }

    #[test]
    fn a_text_in_ascii_is_its_runs_of_letters_and_digits() {
        assert_eq!(
            words("A close-up: the dribago's 3.5 m, a_b"),
            ["a", "close", "up", "the", "dribago", "s", "3", "5", "m", "a", "b"]
        );
        assert!(words(" \t?! ").is_empty());
    }

    #[test]
    fn what_looks_alike_is_equal() {
        let alike = [
            ("naïve", "nai\u{308}ve"),
            ("Größe", "GRO\u{308}SSE"),
            ("Straße", "STRASSE"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
            ("İstanbul", "istanbul"),
            ("IŞIK", "ışık"),
            ("МОСКВА Йод", "москва и\u{306}од"),
            ("ＣＡＴ２", "cat2"),
            ("ﾈｺ", "ネコ"),
            ("ﬁne", "fine"),
            ("한국", "한국"),
            ("soft\u{ad}ware", "software"),
            ("می‌خواهم", "میخواهم"),
            ("كِتَابٌ", "كتاب"),
            ("كـتـاب", "كتاب"),
            ("שָׁלוֹם", "שלום"),
            ("क\u{93c}लम", "\u{958}लम"),
        ];
        for (one, other) in alike {
            assert_eq!(words(one), words(other), "{one} {other}");
            assert!(!words(one).is_empty(), "{one}");
        }
    }

    #[test]
    fn what_differs_to_a_reader_stays_different() {
        for (one, other) in
            [("schön", "schon"), ("เสือ", "เสื้อ"), ("किताब", "कताब"), ("は", "ば"), ("йод", "иод")]
        {
            assert_ne!(words(one), words(other), "{one} {other}");
        }
    }

    #[test]
    fn marks_do_not_cut_words() {
        assert_eq!(words("हिन्दी बिल्ली"), ["हिन्दी", "बिल्ली"]);
        assert_eq!(words("தமிழ் பூனை"), ["தமிழ்", "பூனை"]);
        assert_eq!(words("\u{301}a"), ["a"]);
    }

    #[test]
    fn scripts_without_spaces_are_indexed_by_one_two_and_three_characters() {
        assert_eq!(words("红猫"), ["红", "红猫", "猫"]);
        assert_eq!(words("猫がいる"), ["猫", "猫が", "猫がい", "が", "がい", "がいる", "い", "いる", "る"]);
        assert_eq!(words("LEDライト"), ["led", "ラ", "ライ", "ライト", "イ", "イト", "ト"]);
        assert_eq!(words("スキー"), ["ス", "スキ", "スキー", "キ", "キー", "ー"]);
        // A vowel above its consonant is one character with it.
        assert_eq!(words("หมี"), ["ห", "หมี", "มี"]);
    }
}
