//! Small versions of a knowledge base's images, for people to look at.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use futures::{StreamExt as _, TryStreamExt as _};
use moka::future::Cache;
use reverie_imaging::preview::{self, Bounds};
use reverie_imaging::{Encoded, PictureError, pool};
use reverie_knowledge::epoch::{Entry, MAX_ENTRY_TEXT_BYTES};
use reverie_proto::limits::{MAX_FOUND, MAX_NEIGHBOURS, MAX_TEXT_BYTES};
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::Refusal;
use tonic::Status;

use crate::convert::encoded;
use crate::knowledge_base::KnowledgeBase;

/// Most bytes of the thumbnails that are kept.
const KEPT_BYTES: u64 = 64 << 20;
/// Thumbnails that are made at a time for one answer.
const AT_A_TIME: usize = 2;
/// The thumbnails of larger answers: a hundred of them stay below 3.5 MiB.
const SMALLER: Bounds = Bounds { side: 192, bytes: 35 << 10 };
/// What their texts may take then, so that clients take the answer by default (4 MiB).
const FEW_TEXTS: usize = 256 << 10;
/// The thumbnails of larger answers with longer texts, which take 3.1 MiB at most, words that matched included.
const SMALLEST: Bounds = Bounds { side: 96, bytes: 7 << 10 };

/// What clients take by default, less what is said beside texts and images.
const ANSWER_BYTES: usize = (4 << 20) - (64 << 10);
// Words that matched are told once more.
const _: () = assert!(
    MAX_FOUND as usize * SMALLER.bytes + 2 * FEW_TEXTS < ANSWER_BYTES
        && MAX_FOUND as usize * (SMALLEST.bytes + MAX_ENTRY_TEXT_BYTES + MAX_TEXT_BYTES) < ANSWER_BYTES
);

/// Makes thumbnails, and keeps those that were asked for last; cheap to clone.
#[derive(Clone)]
pub(crate) struct Thumbnails {
    made: Cache<Key, Image>,
    /// By knowledge base, the identities of the segments of which they are kept.
    kept: Arc<RwLock<HashMap<String, HashSet<Arc<str>>>>>,
}

/// What a thumbnail is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    knowledge_base: String,
    /// Identity of the segment.
    segment: Arc<str>,
    /// Position in the segment.
    position: u32,
    /// Longest side, pixels.
    side: u32,
}

/// What thumbnails of the entries `keys` may take.
fn bounds(base: &KnowledgeBase, keys: &[u64]) -> Bounds {
    if keys.len() <= MAX_NEIGHBOURS as usize {
        return Bounds::default();
    }
    let texts = |key: &u64| base.entries.get(*key).map_or(0, Entry::text_bytes);
    if keys.iter().map(texts).sum::<usize>() <= FEW_TEXTS { SMALLER } else { SMALLEST }
}

impl Thumbnails {
    pub(crate) fn new() -> Self {
        let bytes = |_: &Key, image: &Image| u32::try_from(image.data.len()).unwrap_or(u32::MAX);
        let cache = Cache::builder().weigher(bytes).max_capacity(KEPT_BYTES);
        Self { made: cache.support_invalidation_closures().build(), kept: Arc::default() }
    }

    /// Lets go of thumbnails of segments that a knowledge base has no more.
    pub(crate) fn keep_only(&self, knowledge_base: &str, segments: impl Iterator<Item = Arc<str>>) {
        let (name, segments) = (knowledge_base.to_owned(), segments.collect::<HashSet<_>>());
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.insert(name.clone(), segments.clone());
        drop(kept);
        let is_old =
            move |key: &Key, _: &Image| key.knowledge_base == name && !segments.contains(&key.segment);
        if let Err(error) = self.made.invalidate_entries_if(is_old) {
            tracing::error!(%error, "thumbnails of what is no more there are kept");
        }
        // Now, and not when somebody asks for one.
        let made = self.made.clone();
        tokio::spawn(async move { made.run_pending_tasks().await });
    }

    /// Those of the entries `keys`, in order.
    pub(crate) async fn of(&self, base: &KnowledgeBase, keys: &[u64]) -> Result<Vec<Image>, Status> {
        let bounds = bounds(base, keys);
        let made: Vec<_> = keys.iter().map(|&key| self.one(base, key, bounds)).collect();
        futures::stream::iter(made).buffered(AT_A_TIME).try_collect().await
    }

    fn keeps(&self, key: &Key) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(&key.knowledge_base).is_none_or(|kept| kept.contains(&key.segment))
    }

    async fn one(&self, base: &KnowledgeBase, key: u64, bounds: Bounds) -> Result<Image, Status> {
        let found = base.place(key).zip(base.entries.get(key));
        let ((part, position), entry) =
            found.ok_or_else(|| Refusal::internal(format!("there is no entry {key}")))?;
        let known = Key {
            knowledge_base: base.name.clone(),
            segment: Arc::clone(&part.loaded.identity),
            position,
            side: bounds.side,
        };
        let made = self.made.try_get_with(known.clone(), smaller(encoded(&entry.image), bounds)).await;
        if !self.keeps(&known) {
            // The search began before a change.
            self.made.invalidate(&known).await;
        }
        made.map_err(|error| {
            let why = format!(
                "the picture of {:?} in the knowledge base {:?} cannot be used, build it again: {error}",
                entry.id, base.name
            );
            Refusal::internal(why).into()
        })
    }
}

async fn smaller(image: Image, bounds: Bounds) -> Result<Image, PictureError> {
    let header = Encoded::read(&image)?;
    if preview::is_small(&image, header.size(), bounds) {
        return Ok(image);
    }
    pool::decode(header, move |picture| preview::of(picture, bounds)).await?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_made_after_its_segment_went_is_not_kept() {
        let thumbnails = Thumbnails::new();
        let key = |segment: &str| Key {
            knowledge_base: "creatures".to_owned(),
            segment: segment.into(),
            position: 0,
            side: 64,
        };
        for segment in ["old", "new"] {
            thumbnails.made.insert(key(segment), Image::default()).await;
        }
        thumbnails.keep_only("creatures", ["new".into()].into_iter());
        let forgotten = async {
            while thumbnails.made.entry_count() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), forgotten).await.unwrap();
        assert!(thumbnails.made.get(&key("old")).await.is_none());
        assert!(thumbnails.made.get(&key("new")).await.is_some());
        assert!(thumbnails.keeps(&key("new")) && !thumbnails.keeps(&key("old")));
    }
}
