//! Small versions of a knowledge base's images, for people to look at.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use moka::future::Cache;
use reverie_imaging::preview::{self, Bounds};
use reverie_imaging::{Encoded, PictureError, pool};
use reverie_proto::limits::MAX_NEIGHBOURS;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::Refusal;
use tonic::Status;

use crate::convert::encoded;
use crate::knowledge_base::KnowledgeBase;

/// Most bytes of the thumbnails that are kept.
const KEPT_BYTES: u64 = 64 << 20;
/// Thumbnails that are made at a time for one answer.
const AT_A_TIME: usize = 2;
/// The thumbnails of larger answers: a hundred of them and their texts stay below 4 MiB, unless the texts alone do not.
const SMALLER: Bounds = Bounds { side: 192, bytes: 35 << 10 };

/// Makes thumbnails, and keeps those that were asked for last; cheap to clone.
#[derive(Clone)]
pub(crate) struct Thumbnails(Cache<Key, Image>);

/// The content of a knowledge base, the position of an entry, and the longest side.
type Key = (Arc<str>, u64, u32);

impl Thumbnails {
    pub(crate) fn new() -> Self {
        let bytes = |_: &Key, image: &Image| u32::try_from(image.data.len()).unwrap_or(u32::MAX);
        Self(Cache::builder().weigher(bytes).max_capacity(KEPT_BYTES).build())
    }

    /// Those of the entries `keys`, in order.
    pub(crate) async fn of(&self, base: &KnowledgeBase, keys: &[u64]) -> Result<Vec<Image>, Status> {
        let bounds = if keys.len() > MAX_NEIGHBOURS as usize { SMALLER } else { Bounds::default() };
        let made: Vec<_> = keys.iter().map(|&key| self.one(base, key, bounds)).collect();
        futures::stream::iter(made).buffered(AT_A_TIME).try_collect().await
    }

    async fn one(&self, base: &KnowledgeBase, key: u64, bounds: Bounds) -> Result<Image, Status> {
        let entry = usize::try_from(key).ok().and_then(|key| base.entries.get(key));
        let entry = entry.ok_or_else(|| Refusal::internal(format!("there is no entry {key}")))?;
        let known = (Arc::clone(&base.content_digest), key, bounds.side);
        let made = self.0.try_get_with(known, smaller(encoded(&entry.image), bounds)).await;
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
