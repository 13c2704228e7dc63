//! What a search finds.

use std::cmp::Ordering;

/// An entry and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Position in the knowledge base's entry list.
    pub key: u64,
    /// Higher is better; comparable within one list. Of vectors, the cosine similarity, -1 to 1.
    pub score: f32,
}

impl Hit {
    /// Orders by score, and hits of one score by key.
    pub fn best_first(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.key.cmp(&other.key))
    }
}
