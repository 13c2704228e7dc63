//! How neighbours are found: by words, by embedding, or by both.

use std::sync::Arc;

use reverie_service_kit::{Context, Refusal};
use tonic::Status;

use crate::embedding::EmbeddingSearch;
use crate::fusion::{Hit, Ranking, fuse};
use crate::knowledge_base::KnowledgeBase;
use crate::settings::Fusion;

/// How neighbours are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The words of the text against the captions.
    Bm25,
    /// The text against the pictures in the joint space.
    Embedding,
    /// Both, fused.
    Hybrid,
}

/// A search that can be done.
pub(crate) struct Retrieve {
    pub(crate) knowledge_base: Arc<KnowledgeBase>,
    pub(crate) text: String,
    pub(crate) limit: u32,
    pub(crate) strategy: Strategy,
}

impl Retrieve {
    /// The neighbours, best first.
    pub(crate) async fn run(
        &self,
        context: Context,
        embedding: &EmbeddingSearch,
        fusion: Fusion,
    ) -> Result<Vec<Hit>, Status> {
        match self.strategy {
            Strategy::Bm25 => self.by_words(self.limit as usize).await,
            Strategy::Embedding => {
                embedding.search(context, &self.knowledge_base, &self.text, self.limit).await
            }
            Strategy::Hybrid => {
                let near = embedding.search(context, &self.knowledge_base, &self.text, fusion.candidates);
                let (worded, near) = tokio::try_join!(self.by_rare_words(fusion), near)?;
                let rankings = [worded, Ranking { weight: 1.0, hits: near }];
                Ok(fuse(&rankings, fusion.rank_constant, self.limit as usize))
            }
        }
    }

    async fn by_words(&self, limit: usize) -> Result<Vec<Hit>, Status> {
        let (knowledge_base, text) = (Arc::clone(&self.knowledge_base), self.text.clone());
        tokio::task::spawn_blocking(move || knowledge_base.captions.search(&text, limit))
            .await
            .map_err(Refusal::internal)?
            .map_err(|error| Refusal::internal(error).into())
    }

    /// What the text names, with more weight; what has its words, if it names nothing.
    async fn by_rare_words(&self, fusion: Fusion) -> Result<Ranking, Status> {
        let (knowledge_base, text) = (Arc::clone(&self.knowledge_base), self.text.clone());
        let limit = fusion.candidates as usize;
        let named = tokio::task::spawn_blocking(move || {
            knowledge_base.captions.search_rare(&text, limit, fusion.rare_share)
        })
        .await
        .map_err(Refusal::internal)?
        .map_err(Refusal::internal)?;
        if named.is_empty() {
            Ok(Ranking { weight: 1.0, hits: self.by_words(limit).await? })
        } else {
            Ok(Ranking { weight: fusion.rare_weight, hits: named })
        }
    }
}
