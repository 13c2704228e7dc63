use bytes::Bytes;
use reverie_knowledge::epoch::{Entry, Metadata};

use super::*;

mod worlds;

/// A knowledge base of these captions.
struct Library {
    captions: Captions,
    subjects: Subjects,
    entries: Entries,
}

impl Library {
    fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let entry = |caption: &str| Entry {
            id: String::new(),
            caption: caption.to_owned(),
            attribution: String::new(),
            metadata: Metadata::new(),
            image: Bytes::new(),
        };
        let entries: Vec<Entry> = texts.into_iter().map(entry).collect();
        let captions = Captions::index(entries.iter().map(|entry| entry.caption.as_str())).unwrap();
        let subjects = Subjects::learn(entries.iter().map(|entry| entry.caption.as_str()));
        Self { captions, subjects, entries: Entries::of([entries.into()]) }
    }

    fn base(&self) -> Base<'_> {
        let Self { captions, subjects, entries } = self;
        Base { captions, subjects, entries }
    }

    fn find(&self, text: &str) -> Option<Named> {
        Named::find(&self.base(), text, 64, &None).unwrap()
    }

    /// The best `limit` captions for `text`: those that have what it names, or plain BM25 if it names nothing.
    fn search(&self, text: &str, limit: usize) -> Vec<u64> {
        match self.find(text) {
            Some(named) => {
                let ties = named.by_words.clone();
                named.rank(&ties, limit).iter().map(|found| found.key).collect()
            }
            None => self.captions.search(text, limit, &None).unwrap().iter().map(|hit| hit.key).collect(),
        }
    }
}

const FEW: [&str; 8] = [
    "a large zunin on the left, meadow",
    "a zunin seen close up",
    "a large leka in the middle, snow",
    "a leka from behind, meadow",
    "a small paru in the middle, meadow",
    "half a paru",
    "a rose dragon on the right, meadow",
    "a red dragon in the middle, meadow",
];

#[test]
fn what_a_text_names_comes_first_however_small_the_knowledge_base() {
    let base = Library::new(FEW);
    let mut zunins = base.search("a large zunin in the middle, meadow", 2);
    zunins.sort_unstable();
    assert_eq!(zunins, [0, 1]);
    assert_eq!(base.search("a small rose dragon in the middle, meadow", 2), [6, 7]);
    let two = base.search("a leka and a paru, meadow", 2);
    assert!(two[0] / 2 != two[1] / 2 && two.iter().all(|key| (2..6).contains(key)), "{two:?}");
}

#[test]
fn a_name_that_no_caption_has_is_told() {
    let base = Library::new(FEW);
    let named = base.find("a large quopple in the middle, meadow").unwrap();
    assert_eq!(named.unmatched, ["quopple"]);
    assert!(named.rank(&[], 8).is_empty());
    let named = base.find("a quopple beside a zunin").unwrap();
    assert_eq!(named.unmatched, ["quopple"]);
    let found = named.rank(&[], 8);
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|found| found.words == ["zunin"] && found.share > 0.4 && found.share < 0.7));
}

#[test]
fn a_text_that_names_nothing_is_told_as_such() {
    let base = Library::new(FEW);
    assert!(base.find("a large red creature in the middle, meadow").is_none());
    // A word of most captions names nothing, in whatever language.
    let photos: Vec<String> = (0..100).map(|number| format!("fotojo de io{number}x")).collect();
    assert!(Library::new(photos.iter().map(String::as_str)).find("fotojo").is_none());
}

#[test]
fn a_misspelt_name_is_found() {
    let base = Library::new(FEW);
    for (text, words) in [
        ("a large zunni, meadow", "zunin"),
        ("a zunon", "zunin"),
        ("a zunn", "zunin"),
        ("a zuniin", "zunin"),
        ("a lekka", "leka"),
        ("some lekas", "leka"),
    ] {
        let named = base.find(text).unwrap();
        let found = named.rank(&[], 8);
        assert_eq!(found.len(), 2, "{text}");
        assert!(found.iter().all(|found| found.words == [words]), "{text}");
        // It is told what was read as what, and such a caption matches by half at most.
        let [misspelt] = named.misspelt.as_slice() else { panic!("{text}: {:?}", named.misspelt) };
        assert!(text.contains(&misspelt.word) && misspelt.read_as == [words], "{text}: {misspelt:?}");
        assert!(found.iter().all(|found| (0.4..=0.5).contains(&found.share)), "{text}: {found:?}");
    }
    let named = base.find("a zunin").unwrap();
    assert!(named.misspelt.is_empty() && named.rank(&[], 1)[0].share > 0.99);
    assert_eq!(base.find("a zunonn").unwrap().unmatched, ["zunonn"]);
    // Three letters are too few, and a word of scenes is not a misspelt name.
    assert_eq!(base.find("a lek").unwrap().unmatched, ["lek"]);
    assert_eq!(base.find("medow").unwrap().unmatched, ["medow"]);
}

#[test]
fn one_edit_is_one_letter_or_two_that_changed_places() {
    for (one, other) in
        [("zunin", "zunon"), ("zunin", "zuni"), ("uzunin", "zunin"), ("zuinn", "zunin"), ("a", "")]
    {
        assert!(is_one_edit(one, other) && is_one_edit(other, one), "{one} {other}");
    }
    for (one, other) in
        [("zunin", "zunin"), ("zunin", "zun"), ("zunin", "zonun"), ("ab", "cd"), ("abc", "cba")]
    {
        assert!(!is_one_edit(one, other) && !is_one_edit(other, one), "{one} {other}");
    }
}

#[test]
fn names_of_scripts_without_spaces_are_found_by_their_parts() {
    let base = Library::new([
        "祖宁在草地上",
        "一只大祖宁, 雪地",
        "勒卡在雪地里",
        "一只小勒卡, 夜晚",
        "宁静的帕鲁, 夜晚",
    ]);
    let mut found = base.search("大的祖宁在雪地里", 2);
    found.sort_unstable();
    assert_eq!(found, [0, 1]);
    // One character of three is not enough.
    let base = Library::new([
        "琉罗枭在雪地里",
        "一只大琉罗枭",
        "琉罗枭, 夜晚",
        "赤瞿在雪地里",
        "一只小赤瞿",
        "赤瞿, 夜晚",
    ]);
    assert_eq!(base.search("夜晚的赤瞿", 3).len(), 3);
    let named = base.find("雪地里的琉璃猫").unwrap();
    assert_eq!(named.unmatched, ["琉璃猫"]);
    assert!(named.rank(&[], 5).is_empty());
}

/// The longest text that a request may have, in words that no caption has, and in one run without spaces.
#[test]
fn the_longest_text_takes_no_long_time() {
    let captions: Vec<String> =
        (0..3000).map(|number| format!("a zuni{number} near io{number}x in the snow")).collect();
    let base = Library::new(captions.iter().map(String::as_str));
    let words = (0..1200).map(|number| format!("ab{number}c")).collect::<Vec<_>>().join(" ");
    let run: String = (0..2600).filter_map(|number| char::from_u32(0x4e00 + number)).collect();
    for text in [words, run.clone(), format!("{run} zuni7")] {
        let begun = std::time::Instant::now();
        let named = base.find(&text).unwrap();
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
        println!("{:?}, {} not matched", begun.elapsed(), named.unmatched.len());
    }
    // And a caption may be as long.
    let begun = std::time::Instant::now();
    Library::new([run.as_str(); 20]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}
