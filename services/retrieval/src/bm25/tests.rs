//! What BM25 finds, and how it is scored.

use tantivy::tokenizer::{LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer};

use super::*;

fn captions(texts: &[&str]) -> Captions {
    Captions::index(texts.iter().copied()).unwrap()
}

fn keys(hits: &[Hit]) -> Vec<u64> {
    hits.iter().map(|hit| hit.key).collect()
}

#[test]
fn rare_words_weigh_more_than_common_ones() {
    let mut texts = vec!["a fox on the left"; 20];
    texts.extend(["a hen on snow"; 20]);
    texts.push("a dribago on snow");
    let captions = captions(&texts);
    let hits = captions.search("A DRIBAGO, on the left!", 4, &None).unwrap();
    assert_eq!(hits[0].key, 40);
    assert!(hits.iter().all(|hit| hit.score > 0.0));
}

#[test]
fn scores_are_those_of_bm25() {
    // idf = ln(1 + (N - n + 0.5) / (n + 0.5)), here N = 2, n = 1; tf = 1, and both captions have the mean length.
    let captions = captions(&["red fox", "blue hen"]);
    let hits = captions.search("fox", 2, &None).unwrap();
    assert_eq!(keys(&hits), [0]);
    assert!((hits[0].score - 2.0_f32.ln()).abs() < 1e-5, "{}", hits[0].score);
}

#[test]
fn a_query_language_is_just_words() {
    let captions = captions(&["a fox", "a hen"]);
    for text in ["+hen -fox", "caption:hen AND (", "hen* ^3 \"", "[hen TO *]", "hen hen hen"] {
        assert_eq!(captions.search(text, 1, &None).unwrap().len(), 1, "{text}");
    }
    assert!(captions.search("?!", 9, &None).unwrap().is_empty());
    assert!(captions.search("unheard-of", 9, &None).unwrap().is_empty());
    assert_eq!(keys(&captions.search("-fox", 9, &None).unwrap()), [0]);
}

#[test]
fn ties_are_told_in_order_of_position() {
    let captions = captions(&["a fox"; 20]);
    assert_eq!(keys(&captions.search("fox", 5, &None).unwrap()), [0, 1, 2, 3, 4]);
}

#[test]
fn captions_are_found_in_any_language() {
    let texts = [
        "一只红色的猫在雪地里",
        "雪の中の赤い猫のマスコット",
        "แมวสีแดงในหิมะ",
        "ein schöner Käfer auf der Straße",
        "kırmızı bir kedi, IŞIK",
        "Красная кошка на снегу, Йошкар-Ола",
        "बर्फ़ में एक लाल बिल्ली",
        "قِطَّةٌ حَمْرَاءُ فِي الثَّلْج",
        "눈 속의 빨간 고양이가",
        "a naïve fox",
    ];
    let captions = captions(&texts);
    let cases = [
        ("红色", 0),
        ("雪地里的猫", 0),
        ("マスコット", 1),
        ("แมว", 2),
        ("scho\u{308}ner", 3),
        ("KA\u{308}FER", 3),
        ("STRASSE", 3),
        ("ışık", 4),
        ("KIRMIZI", 4),
        ("КОШКА", 5),
        ("и\u{306}ошкар", 5),
        ("बिल्ली", 6),
        ("बर्फ\u{93c}", 6),
        ("قطة", 7),
        ("고양이", 8),
        ("nai\u{308}ve", 9),
    ];
    for (text, key) in cases {
        let hits = captions.search(text, 3, &None).unwrap();
        assert_eq!(keys(&hits).first(), Some(&key), "{text}: {hits:?}");
    }
    let mut cats = keys(&captions.search("猫", 9, &None).unwrap());
    cats.sort_unstable();
    assert_eq!(cats, [0, 1]);
    // A word of a language with spaces is found as a whole only.
    assert!(captions.search("schon", 9, &None).unwrap().is_empty());
}

#[test]
fn a_caption_of_one_long_run_is_found() {
    let long = format!("a{}", "donaudampfschiff".repeat(60));
    let captions = captions(&[&long, "a fox", &"雪".repeat(300)]);
    assert_eq!(keys(&captions.search(&long.to_uppercase(), 9, &None).unwrap()), [0]);
    assert_eq!(keys(&captions.search("雪", 9, &None).unwrap()), [2]);
}

/// What the bundled models and their defaults were measured with.
#[test]
fn the_bundled_captions_have_the_words_that_they_always_had() {
    let entries = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/bestiary/knowledge/creatures/segments/000001/entries.jsonl"
    );
    let text = std::fs::read_to_string(entries).unwrap();
    let mut analyzer = TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(64))
        .filter(LowerCaser)
        .build();
    // The whole line, for more than the captions.
    for line in text.lines() {
        let mut expected = Vec::new();
        analyzer.token_stream(line).process(&mut |token| expected.push(token.text.clone()));
        assert_eq!(words(line), expected);
    }
    assert_eq!(text.lines().count(), 960);
}
