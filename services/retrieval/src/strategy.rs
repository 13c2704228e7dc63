//! How neighbours are found: by words, by embedding, or by both; what is said of each; and how many that are alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_knowledge::Hit;
use reverie_service_kit::{Context, Permit, Refusal};
use tantivy::TantivyError;
use tonic::Status;

use crate::bm25::Allowed;
use crate::embedding::{Among, EmbeddingSearch, Probe};
use crate::fusion::fuse;
use crate::knowledge_base::KnowledgeBase;
use crate::naming::{Misspelt, Named};
use crate::selection::Selection;
use crate::settings::Fusion;
use crate::shares::Shares;
use crate::thinning::thin;

/// Entries that are found where some of them may be left out for others; the vector service compares no more.
const POOL: u32 = 256;

/// How neighbours are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The words of the text against the captions.
    Bm25,
    /// The text, or what is given in its place, against the images in the joint space.
    Embedding,
    /// Both, fused.
    Hybrid,
}

/// A search that can be done.
pub(crate) struct Retrieve {
    pub(crate) knowledge_base: Arc<KnowledgeBase>,
    /// Empty if only `probe` is searched for.
    pub(crate) text: String,
    pub(crate) probe: Probe,
    pub(crate) limit: u32,
    pub(crate) strategy: Strategy,
    /// Entries of a lower score do not match.
    pub(crate) minimum_score: Option<f32>,
    /// Whether to answer with the nearest entries if none matches.
    pub(crate) nearest: bool,
    pub(crate) selection: Selection,
    /// Whether the search by embedding must miss nothing.
    pub(crate) is_exact: bool,
}

/// An entry that was found, and why.
#[derive(Debug)]
pub(crate) struct Found {
    /// Position in the knowledge base's entry list.
    pub(crate) key: u64,
    /// See `Neighbour.score`.
    pub(crate) score: f32,
    /// Words of the caption that the text has, or nearly.
    pub(crate) words: Vec<String>,
    /// Cosine similarity of the image and what was searched for, if it was among the nearest.
    pub(crate) similarity: Option<f32>,
}

/// What a search found.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Best first.
    pub(crate) found: Vec<Found>,
    /// Whether they match; if not, they are merely the nearest.
    pub(crate) is_match: bool,
    /// What the text names and no caption has.
    pub(crate) unmatched: Vec<String>,
    /// What it names and no caption has, either, but for a letter.
    pub(crate) misspelt: Vec<Misspelt>,
}

/// What the words of a text found.
struct Worded {
    /// By what the text names, if it names something.
    named: Option<Named>,
    /// By all its words, best first, where that may be the answer.
    plain: Vec<Hit>,
    shares: Shares,
}

impl Retrieve {
    /// Searches. Work that blocks holds the call's place, even after its caller left.
    pub(crate) async fn run(
        self,
        context: Context,
        permit: &Permit,
        embedding: &EmbeddingSearch,
        fusion: Fusion,
    ) -> Result<Outcome, Status> {
        let this = Arc::new(self);
        let allowed = if this.selection.allows_all() {
            None
        } else {
            let this = Arc::clone(&this);
            let allowed = move || Ok(Arc::new(this.knowledge_base.allowed(&this.selection)));
            Some(permit.clone().run_blocking(allowed).await?)
        };
        let mut outcome = this.find(context, permit, embedding, fusion, &allowed).await?;
        if this.selection.thins() {
            outcome.found = this.thin(context, embedding, outcome.found).await?;
        }
        Ok(outcome)
    }

    /// What matches, or is nearest: as many as are wanted or, if some of them may be left out, as many as are compared.
    async fn find(
        self: &Arc<Self>,
        context: Context,
        permit: &Permit,
        embedding: &EmbeddingSearch,
        fusion: Fusion,
        allowed: &Allowed,
    ) -> Result<Outcome, Status> {
        let limit = if self.selection.thins() { POOL } else { self.limit };
        let near = |limit| {
            let among = Among { limit, allowed, is_exact: self.is_exact };
            embedding.search(context, &self.knowledge_base, &self.text, &self.probe, among)
        };
        let candidates = fusion.candidates.max(limit);
        let by_words = || {
            let (this, allowed) = (Arc::clone(self), allowed.clone());
            permit.clone().run_blocking(move || this.by_words(candidates as usize, &allowed))
        };
        let (worded, near) = match self.strategy {
            Strategy::Bm25 => (by_words().await?, Vec::new()),
            Strategy::Hybrid => tokio::try_join!(by_words(), near(candidates))?,
            Strategy::Embedding => {
                let near = near(limit).await?;
                let nearest = || near.iter().map(Found::near).collect();
                let (found, is_match) = self.judge(nearest(), nearest);
                return Ok(Outcome { found, is_match, unmatched: Vec::new(), misspelt: Vec::new() });
            }
        };
        let this = Arc::clone(self);
        permit.clone().run_blocking(move || Ok(this.rank(&worded, &near, fusion, limit as usize))).await
    }

    /// The best `limit` of what words and embedding found. Blocking.
    fn rank(&self, worded: &Worded, near: &[Hit], fusion: Fusion, limit: usize) -> Outcome {
        let similarities: BTreeMap<u64, f32> = near.iter().map(|hit| (hit.key, hit.score)).collect();
        let nearest = || self.nearest(worded, near, &similarities, fusion, limit);
        let Some(named) = worded.named.as_ref() else {
            let (found, is_match) = self.judge(nearest(), nearest);
            return Outcome { found, is_match, unmatched: Vec::new(), misspelt: Vec::new() };
        };
        // Those that have the same of what the text names are ordered by all its words and by embedding.
        let ties = fuse(&[&named.by_words, near], fusion.rank_constant);
        let found = named.rank(&ties, limit).into_iter().map(|found| Found {
            key: found.key,
            score: found.share,
            words: found.words.clone(),
            similarity: similarities.get(&found.key).copied(),
        });
        let (found, is_match) = self.judge(found.collect(), nearest);
        Outcome { found, is_match, unmatched: named.unmatched.clone(), misspelt: named.misspelt.clone() }
    }

    /// The best of `found` that are not too much alike.
    async fn thin(
        &self,
        context: Context,
        embedding: &EmbeddingSearch,
        found: Vec<Found>,
    ) -> Result<Vec<Found>, Status> {
        let base = &self.knowledge_base;
        let diversity = self.selection.diversity;
        let similarities = if diversity > 0.0 && found.len() > 1 {
            let keys = found.iter().map(|found| found.key).collect();
            Some(embedding.compare(context, base, keys).await?)
        } else {
            None
        };
        let (groups, most) = match &self.selection.group_by {
            Some(by) => (found.iter().map(|found| base.group(found.key, by)).collect(), by.limit),
            None => (Vec::new(), usize::MAX),
        };
        let scores: Vec<f32> = found.iter().map(|found| found.score).collect();
        let alike = similarities.as_ref().map(|similarities| (similarities, diversity));
        let chosen = thin(&scores, alike, &groups, most, self.limit as usize);
        let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
        Ok(chosen.into_iter().filter_map(|place| found[place].take()).collect())
    }

    /// Those of `found` that match, if there are any; if none does, the nearest, if they are wanted. And whether any does.
    fn judge(&self, mut found: Vec<Found>, nearest: impl FnOnce() -> Vec<Found>) -> (Vec<Found>, bool) {
        found.retain(|found| self.minimum_score.is_none_or(|minimum| found.score >= minimum));
        let is_match = !found.is_empty();
        if !is_match && self.nearest {
            found = nearest();
        }
        (found, is_match)
    }

    /// What is nearest to the whole text, whether or not it has what the text names.
    fn nearest(
        &self,
        worded: &Worded,
        near: &[Hit],
        similarities: &BTreeMap<u64, f32>,
        fusion: Fusion,
        limit: usize,
    ) -> Vec<Found> {
        let fused = fuse(&[&worded.plain, near], fusion.rank_constant);
        let found = fused.iter().take(limit).filter_map(|hit| {
            let entry = self.knowledge_base.entries.get(hit.key)?;
            let (share, words) = worded.shares.in_caption(&entry.caption);
            let similarity = similarities.get(&hit.key).copied();
            Some(Found { key: hit.key, score: share.max(similarity.unwrap_or(0.0)), words, similarity })
        });
        found.collect()
    }

    /// What the words of the text find. Blocking.
    fn by_words(&self, limit: usize, allowed: &Allowed) -> Result<Worded, Status> {
        let base = &self.knowledge_base;
        let search = || {
            let named = Named::find(&base.names(), &self.text, limit, allowed)?;
            let (mut plain, mut shares) = (Vec::new(), Shares::default());
            if named.is_none() || self.nearest {
                plain = base.captions.search(&self.text, limit, allowed)?;
                shares = Shares::of(&self.text, &base.captions)?;
            }
            Ok::<_, TantivyError>(Worded { named, plain, shares })
        };
        search().map_err(|error| Refusal::internal(error).into())
    }
}

impl Found {
    fn near(hit: &Hit) -> Self {
        Self { key: hit.key, score: hit.score, words: Vec::new(), similarity: Some(hit.score) }
    }
}
