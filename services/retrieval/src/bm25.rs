//! BM25 over captions (Robertson & Zaragoza 2009; k1 = 1.2, b = 0.75), on an index in memory for each segment.
//!
//! A query is the set of words of the text (`words.rs`), each optional: user text never meets a query language. A word that
//! every caption has ("a", "on") has next to no weight by itself.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use reverie_knowledge::Hit;
use roaring::RoaringBitmap;
use tantivy::collector::{FilterCollector, TopDocs};
use tantivy::directory::{Directory as _, RamDirectory};
use tantivy::index::SegmentId;
use tantivy::query::{
    Bm25StatisticsProvider, BooleanQuery, BoostQuery, FuzzyTermQuery, Occur, Query, TermQuery,
};
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{Index, IndexReader, ReloadPolicy, TantivyDocument, TantivyError, Term};

use crate::words::words;

const POSITION: &str = "position";
/// The file that says which others there are, and what their names begin with when they are stored.
const META: &str = "meta.json";
const NAME: &str = "captions";
const NO_ID: &str = "00000000000000000000000000000000";
/// Memory that the index writer begins with, bytes; it takes what it needs.
const WRITER_MEMORY: usize = 1 << 20;

/// Captions of other things that are counted beside those of a knowledge base: a small one is a part of the world.
const OTHERS: f64 = 50.0;

/// The most words of a text that order the captions which have a certain one.
const MAX_RANKED_BY: usize = 256;

/// What counts as the number of captions where there are `captions`.
pub(crate) fn size(captions: u64) -> f64 {
    captions as f64 + OTHERS
}

/// How much a word says that `count` captions of `size` have: ln(1 + (N - n + 0.5) / (n + 0.5)), the IDF of BM25. A word that no
/// caption has is as rare as one that a single caption has.
pub(crate) fn weight(count: u64, size: f64) -> f64 {
    let count = count.max(1) as f64;
    (1.0 + (size - count + 0.5) / (count + 0.5)).ln()
}

/// The entries that a search may find; none for all that are not deleted.
pub(crate) type Allowed = Option<Arc<RoaringBitmap>>;

/// The fields of every index, so that a term of one is a term of all.
static SCHEMA: LazyLock<(Schema, Field)> = LazyLock::new(|| {
    let indexing = TextFieldIndexing::default().set_index_option(IndexRecordOption::WithFreqs);
    let mut schema = Schema::builder();
    let caption = schema.add_text_field("caption", TextOptions::default().set_indexing_options(indexing));
    schema.add_u64_field(POSITION, FAST);
    (schema.build(), caption)
});

/// The captions of a segment, ready for search.
pub(crate) struct Part {
    reader: IndexReader,
    /// Words of all captions, with repetitions.
    tokens: u64,
}

impl Part {
    /// Indexes `captions`; a hit's key is the position in them. Blocking.
    pub(crate) fn index<'a>(captions: impl Iterator<Item = &'a str>) -> Result<Self, TantivyError> {
        Self::open(&Self::build(captions)?.0)
    }

    /// The files of such an index, by name; those of the same captions are the same. Blocking.
    pub(crate) fn files<'a>(
        captions: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<(String, Vec<u8>)>, TantivyError> {
        let (index, directory) = Self::build(captions)?;
        let drawn = index.searchable_segment_ids()?.first().map(SegmentId::uuid_string).unwrap_or_default();
        let mut files = Vec::new();
        for path in index.directory().list_managed_files() {
            let mut bytes = directory.atomic_read(&path)?;
            if path == *META {
                // Its id is drawn, and says nothing.
                let meta = String::from_utf8_lossy(&bytes).into_owned();
                bytes = meta.replace(&hyphenated(&drawn), &hyphenated(NO_ID)).into();
            }
            files.push((path.to_string_lossy().replace(&drawn, NAME), bytes));
        }
        files.sort_unstable();
        Ok(files)
    }

    /// The index of these files; none if they are those of another version of tantivy.
    pub(crate) fn of_files(files: &[(String, &[u8])]) -> Result<Option<Self>, TantivyError> {
        let directory = RamDirectory::create();
        for (name, bytes) in files {
            directory.atomic_write(Path::new(&name.replace(NAME, NO_ID)), bytes)?;
        }
        let opened = Index::open(directory).and_then(|index| Self::open(&index));
        match opened {
            Err(TantivyError::IncompatibleIndex(_)) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Number of captions.
    pub(crate) fn captions(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    fn build<'a>(captions: impl Iterator<Item = &'a str>) -> Result<(Index, RamDirectory), TantivyError> {
        let (schema, caption) = &*SCHEMA;
        let position = schema.get_field(POSITION)?;
        let directory = RamDirectory::create();
        // Without threads and merges: the same captions always give the same index, and one caption is soon indexed.
        let builder = Index::builder().schema(schema.clone());
        let mut writer = builder.single_segment_index_writer(directory.clone(), WRITER_MEMORY)?;
        for (key, text) in (0..).zip(captions) {
            let mut document = TantivyDocument::new();
            document.add_pre_tokenized_text(*caption, tokens(text));
            document.add_u64(position, key);
            writer.add_document(document)?;
        }
        Ok((writer.finalize()?, directory))
    }

    fn open(index: &Index) -> Result<Self, TantivyError> {
        let caption = &SCHEMA.1;
        let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let tokens = Bm25StatisticsProvider::total_num_tokens(&reader.searcher(), *caption)?;
        Ok(Self { reader, tokens })
    }
}

/// What was counted of captions that are deleted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gone {
    captions: u64,
    /// Words, with repetitions.
    tokens: u64,
    /// How many of them have a word.
    having: HashMap<String, u64>,
}

impl Gone {
    /// Counts one more.
    pub(crate) fn add(&mut self, caption: &str) {
        let words = words(caption);
        self.captions += 1;
        self.tokens += words.len() as u64;
        for word in words.into_iter().collect::<HashSet<_>>() {
            *self.having.entry(word).or_default() += 1;
        }
    }
}

/// The captions of all segments of a knowledge base. Scores are those that one index of the captions that are not deleted would give.
#[derive(Default)]
pub(crate) struct Captions {
    /// Each with the key of its first caption.
    parts: Vec<(u64, Arc<Part>)>,
    gone: Vec<Arc<Gone>>,
    /// The keys of captions that are not deleted; none if all are there.
    present: Allowed,
}

impl Captions {
    /// Those of `parts`, each with the key of its first caption, without those that are not `present` and were counted as `gone`.
    pub(crate) fn new(parts: Vec<(u64, Arc<Part>)>, gone: Vec<Arc<Gone>>, present: Allowed) -> Self {
        Self { parts, gone, present }
    }

    /// Indexes `captions`, none of which is deleted. Blocking.
    #[cfg(test)]
    pub(crate) fn index<'a>(captions: impl Iterator<Item = &'a str>) -> Result<Self, TantivyError> {
        Ok(Self::new(vec![(0, Arc::new(Part::index(captions)?))], Vec::new(), None))
    }

    /// The best `limit` captions that have a word of `text`. Blocking.
    pub(crate) fn search(
        &self,
        text: &str,
        limit: usize,
        allowed: &Allowed,
    ) -> Result<Vec<Hit>, TantivyError> {
        let words = Self::terms(text).into_iter().map(|term| (Occur::Should, term_query(term))).collect();
        self.find(&BooleanQuery::new(words), limit, allowed)
    }

    /// The best `limit` captions that have `word`, ranked by all the words of `text`. Blocking.
    pub(crate) fn search_having(
        &self,
        word: &str,
        text: &str,
        limit: usize,
        allowed: &Allowed,
    ) -> Result<Vec<Hit>, TantivyError> {
        let all =
            Self::terms(text).into_iter().take(MAX_RANKED_BY).map(|term| (Occur::Should, term_query(term)));
        // It is among all of them too, and counts once.
        let having: Box<dyn Query> = Box::new(BoostQuery::new(term_query(term(word)), 0.0));
        let having = (Occur::Must, having);
        self.find(&BooleanQuery::new(std::iter::once(having).chain(all).collect()), limit, allowed)
    }

    /// Keys of `limit` captions that have a word which is one letter off `word`. Blocking.
    pub(crate) fn search_near(&self, word: &str, limit: usize) -> Result<Vec<Hit>, TantivyError> {
        self.find(&FuzzyTermQuery::new(term(word), 1, true), limit, &None)
    }

    /// How much `word` says ([`weight`]), and how many captions have it.
    pub(crate) fn weigh(&self, word: &str) -> Result<(f64, u64), TantivyError> {
        let count = self.having(word, &term(word))?;
        Ok((weight(count, size(self.total_num_docs()?)), count))
    }

    /// How many captions have a word.
    fn having(&self, word: &str, term: &Term) -> Result<u64, TantivyError> {
        let mut count = 0;
        for (_, part) in &self.parts {
            count += part.reader.searcher().doc_freq(term)?;
        }
        let gone: u64 = self.gone.iter().filter_map(|gone| gone.having.get(word)).sum();
        Ok(count.saturating_sub(gone))
    }

    /// The different words of `text`.
    fn terms(text: &str) -> Vec<Term> {
        let mut terms: Vec<Term> = words(text).iter().map(|word| term(word)).collect();
        terms.sort_unstable();
        terms.dedup();
        terms
    }

    fn find(&self, query: &dyn Query, limit: usize, allowed: &Allowed) -> Result<Vec<Hit>, TantivyError> {
        let allowed = allowed.as_ref().or(self.present.as_ref());
        let mut hits = Vec::new();
        for (first, part) in &self.parts {
            let (first, searcher) = (*first, part.reader.searcher());
            let best = TopDocs::with_limit(limit).order_by_score();
            let found = match allowed.cloned() {
                None => searcher.search_with_statistics_provider(query, &best, self)?,
                Some(allowed) => {
                    let is_allowed =
                        move |key: u64| u32::try_from(first + key).is_ok_and(|key| allowed.contains(key));
                    let among = FilterCollector::new(POSITION.to_owned(), is_allowed, best);
                    searcher.search_with_statistics_provider(query, &among, self)?
                }
            };
            for (score, address) in found {
                let positions = searcher.segment_reader(address.segment_ord).fast_fields().u64(POSITION)?;
                if let Some(key) = positions.first(address.doc_id) {
                    hits.push(Hit { key: first + key, score });
                }
            }
        }
        hits.sort_by(Hit::best_first);
        hits.truncate(limit);
        Ok(hits)
    }
}

impl Bm25StatisticsProvider for Captions {
    fn total_num_tokens(&self, _: Field) -> Result<u64, TantivyError> {
        let all: u64 = self.parts.iter().map(|(_, part)| part.tokens).sum();
        Ok(all.saturating_sub(self.gone.iter().map(|gone| gone.tokens).sum()))
    }

    fn total_num_docs(&self) -> Result<u64, TantivyError> {
        let all: u64 = self.parts.iter().map(|(_, part)| part.reader.searcher().num_docs()).sum();
        Ok(all.saturating_sub(self.gone.iter().map(|gone| gone.captions).sum()))
    }

    fn doc_freq(&self, term: &Term) -> Result<u64, TantivyError> {
        self.having(term.value().as_str().unwrap_or_default(), term)
    }
}

/// A UUID as RFC 9562 writes it, from its 32 digits.
fn hyphenated(digits: &str) -> String {
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts.map(|part| digits.get(part).unwrap_or_default()).join("-")
}

fn term(word: &str) -> Term {
    Term::from_field_text(SCHEMA.1, word)
}

/// The words of a caption as tantivy takes them; nothing here asks where in the text they stand.
fn tokens(text: &str) -> PreTokenizedString {
    let tokens = words(text).into_iter().enumerate();
    let tokens = tokens.map(|(position, text)| Token { position, text, ..Token::default() }).collect();
    PreTokenizedString { text: text.to_owned(), tokens }
}

fn term_query(term: Term) -> Box<dyn Query> {
    Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
}

#[cfg(test)]
mod tests;
