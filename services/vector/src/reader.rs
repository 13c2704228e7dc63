//! How the epochs of a knowledge base are loaded, and what a Milvus has of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reverie_knowledge::epoch::{Deleted, Manifest, Segment};
use reverie_knowledge::index::Searches;
use reverie_knowledge::{Live, Read};
use reverie_service_kit::telemetry::metrics;
use reverie_storage::Folder;

use crate::CollectionError;
use crate::collection::{Collection, Part};
use crate::milvus::Milvus;
use crate::vectors::{InMemory, SegmentVectors, read_index};

/// How the epochs of a knowledge base are loaded.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The knowledge base that it must be.
    pub(crate) name: String,
    pub(crate) backend: Backend,
    /// Whether something was forgotten that may still be in Milvus.
    has_forgotten: AtomicBool,
}

/// Where segments are searched.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    /// In memory.
    Usearch {
        searches: Searches,
        /// Segments whose different vectors have at most so many bytes are searched exactly.
        exact_bytes: usize,
    },
    /// In a Milvus.
    Milvus(Arc<Milvus>),
}

impl Read for Reader {
    /// Retrieval may ask for any that it began a search with. They share their segments.
    const MOST_KEPT: usize = 1000;

    type Epoch = Collection;
    type Error = CollectionError;

    async fn read(
        &self,
        folder: &Folder,
        manifest: Manifest,
        before: Option<&Collection>,
    ) -> Result<Collection, CollectionError> {
        if manifest.name != self.name {
            return Err(CollectionError::Name { found: manifest.name });
        }
        let held = match &self.backend {
            Backend::Milvus(milvus) => Some(milvus.hold(&manifest)),
            Backend::Usearch { .. } => None,
        };
        let loaded = before.map_or(&[][..], Collection::parts);
        let mut parts = Vec::new();
        let mut first = 0;
        for segment in &manifest.segments {
            let known = loaded.iter().find(|part| part.segment.holds_the_same_as(segment));
            let vectors = match known {
                Some(part) => Arc::clone(&part.vectors),
                None => self.read_segment(folder, segment, manifest.dimension).await?,
            };
            let deleted =
                |segment: &Segment| segment.deleted.as_ref().map(|Deleted { file, .. }| file.clone());
            let present = match known {
                Some(part) if deleted(&part.segment) == deleted(segment) => part.present.clone(),
                _ if segment.deleted.is_none() => None,
                _ => Some(Arc::new(segment.read_present(folder).await?)),
            };
            parts.push(Part { first, segment: segment.clone(), vectors, present });
            first += segment.entries;
        }
        Ok(Collection::new(manifest, parts, held))
    }

    fn manifest(epoch: &Collection) -> &Manifest {
        epoch.manifest()
    }

    fn looked(&self, is_stale: bool) {
        metrics::knowledge_base_is_stale(&self.name, is_stale);
    }

    fn taken_up(&self, collection: &Collection) {
        let manifest = collection.manifest();
        let (name, epoch, size) = (&manifest.name, manifest.epoch, manifest.present());
        tracing::info!(name, epoch, size, digest = collection.content_digest(), "collection loaded");
        let told = metrics::Epoch {
            number: epoch,
            entries: size,
            deleted: manifest.entries() - size,
            segments: manifest.segments.len() as u64,
        };
        metrics::knowledge_base(name, told);
    }
}

impl Reader {
    pub(crate) fn new(name: &str, backend: Backend) -> Self {
        Self { name: name.to_owned(), backend, has_forgotten: AtomicBool::new(false) }
    }

    /// Notes that something was forgotten, which [`Self::drop_older`] is to drop.
    pub(crate) fn forget(&self) {
        self.has_forgotten.store(true, Ordering::Relaxed);
    }

    /// Whether something was forgotten that may still be in Milvus.
    pub(crate) fn has_forgotten(&self) -> bool {
        matches!(self.backend, Backend::Milvus(_)) && self.has_forgotten.load(Ordering::Relaxed)
    }

    /// Makes sure that Milvus has all that the current epoch needs.
    pub(crate) async fn restore(&self, live: &Live<Self>) -> Result<(), CollectionError> {
        let (Backend::Milvus(milvus), Ok(current)) = (&self.backend, live.current()) else { return Ok(()) };
        let (folder, dimension) = (live.epochs().folder(), current.manifest().dimension);
        for Part { segment, vectors, .. } in current.parts() {
            let are_there = || {
                let vectors = Arc::clone(vectors);
                tokio::task::spawn_blocking(move || vectors.are_there())
            };
            if !are_there().await? {
                milvus.segment(&self.name, folder, segment, dimension).await?;
                are_there().await?;
            }
        }
        Ok(())
    }

    /// Drops the epochs before the latest one, and all in Milvus that it does not need.
    pub(crate) async fn drop_older(&self, live: &Live<Self>) -> Result<(), CollectionError> {
        let Backend::Milvus(milvus) = &self.backend else {
            live.drop_older();
            return Ok(());
        };
        // Another replica may be ahead, and has written what a later epoch needs.
        let latest = live.refresh().await?;
        live.drop_older();
        milvus.keep_only(latest.manifest()).await?;
        self.has_forgotten.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn read_segment(
        &self,
        folder: &Folder,
        segment: &Segment,
        dimension: u32,
    ) -> Result<Arc<dyn SegmentVectors>, CollectionError> {
        Ok(match &self.backend {
            Backend::Usearch { searches, exact_bytes } => {
                let index = read_index(folder, segment, dimension, *searches).await?;
                Arc::new(InMemory { index, exact_bytes: *exact_bytes })
            }
            Backend::Milvus(milvus) => {
                Arc::new(milvus.segment(&self.name, folder, segment, dimension).await?)
            }
        })
    }
}
