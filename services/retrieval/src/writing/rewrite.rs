//! Segments written anew, as one, without what is deleted of them.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use reverie_knowledge::epoch::{Entry, Label, Manifest, Segment, Vectors, write_segment};
use reverie_knowledge::index::{IndexError, SegmentIndex, build_index};
use reverie_knowledge::{Live, compaction};
use reverie_storage::{Folder, StorageError};
use roaring::RoaringBitmap;

use super::is_to_forget;
use crate::knowledge_base::{KnowledgeBase, Reader};

/// A segment that was made of others.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// In order.
    pub(super) sources: Vec<Source>,
    /// Their entries that were kept, in order; none if none was.
    pub(super) segment: Option<Segment>,
    /// Whether it also takes their place in snapshots, so that nothing of them is needed.
    pub(super) everywhere: bool,
}

/// A segment that others are made of.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As it was then.
    pub(super) segment: Segment,
    /// Positions of the entries that are kept.
    pub(super) kept: RoaringBitmap,
}

/// What is to be written anew.
pub(super) struct Task {
    sources: Vec<Source>,
    everywhere: bool,
}

/// Why it cannot be.
#[derive(Debug, thiserror::Error)]
pub(super) enum RewriteError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("segment {segment}: {why}")]
    Vectors { segment: String, why: String },
    #[error(transparent)]
    CutOff(#[from] tokio::task::JoinError),
}

impl Task {
    /// What comes next of a knowledge base: first what is to be forgotten.
    pub(super) async fn next(base: &KnowledgeBase, folder: &Folder) -> Result<Option<Self>, StorageError> {
        if let Some(segment) = base.manifest.all_segments().find(|segment| is_to_forget(segment)) {
            // What an epoch or a snapshot still has is kept.
            let mut kept = RoaringBitmap::new();
            for same in base.manifest.all_segments().filter(|same| same.holds_the_same_as(segment)) {
                kept |= same.read_present(folder).await?;
            }
            let sources = vec![Source { segment: segment.clone(), kept }];
            return Ok(Some(Self { sources, everywhere: true }));
        }
        let segments = &base.manifest.segments;
        let Some(range) = compaction::choose(segments) else { return Ok(None) };
        let mut sources = Vec::new();
        for segment in &segments[range] {
            sources.push(Source { segment: segment.clone(), kept: segment.read_present(folder).await? });
        }
        Ok(Some(Self { sources, everywhere: false }))
    }

    /// Writes the segment.
    pub(super) async fn run(self, live: &Live<Reader>) -> Result<Rewritten, RewriteError> {
        let (base, folder) = (live.current(), live.epochs().folder());
        let Self { sources, everywhere } = self;
        let (mut labels, mut images, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for Source { segment, kept } in &sources {
            if kept.is_empty() {
                continue;
            }
            let entries: Arc<[Entry]> = match base.part(segment) {
                Some(part) => Arc::clone(&part.loaded.entries),
                None => segment.read_entries(folder).await?.into(),
            };
            for entry in kept.iter().filter_map(|position| entries.get(position as usize)) {
                let Entry { id, caption, attribution, metadata, image } = entry.clone();
                labels.push(Label { id, caption, attribution, metadata });
                images.push(image);
            }
            let vectors = segment.read_vectors(folder).await?;
            rows.extend(vectors_of(&base.manifest, segment, vectors, kept.clone()).await?);
        }
        if labels.is_empty() {
            return Ok(Rewritten { sources, segment: None, everywhere });
        }
        let (dimension, kind) = (base.dimension, base.manifest.vectors);
        let vectors = tokio::task::spawn_blocking(move || build_index(dimension, kind, &rows)).await??;
        let name = Segment::new_name(base.epoch + 1);
        let images = stream::iter(images.into_iter().map(Ok::<Bytes, StorageError>));
        let segment = write_segment(folder, &name, labels, vectors, images).await?;
        Ok(Rewritten { sources, segment: Some(segment), everywhere })
    }
}

/// The vectors of these entries of a segment, in order.
async fn vectors_of(
    manifest: &Manifest,
    segment: &Segment,
    vectors: Vectors,
    kept: RoaringBitmap,
) -> Result<Vec<Vec<f32>>, RewriteError> {
    let (entries, dimension, segment) = (segment.entries, manifest.dimension, segment.name.clone());
    let read = move || {
        let wrong = |why: String| RewriteError::Vectors { segment: segment.clone(), why };
        let index = SegmentIndex::load(&vectors, entries, dimension, 1).map_err(wrong)?;
        let vector = |position: u32| {
            let vector = index.vector(u64::from(position))?;
            vector.ok_or_else(|| wrong(format!("it has no vector of entry {position}")))
        };
        kept.iter().map(vector).collect()
    };
    tokio::task::spawn_blocking(read).await?
}
