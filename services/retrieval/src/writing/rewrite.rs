//! Segments written anew, as one, without what is deleted of them.

use std::sync::Arc;
use std::thread::available_parallelism;

use bytes::Bytes;
use futures::stream;
use reverie_knowledge::compaction;
use reverie_knowledge::epoch::{Entry, Label, Manifest, Segment, Vectors, write_segment};
use reverie_knowledge::index::{IndexError, Searches, SegmentIndex, build_index};
use reverie_storage::{Folder, StorageError};
use roaring::RoaringBitmap;
use tantivy::TantivyError;

use crate::caption_file::index_captions;
use crate::knowledge_base::KnowledgeBase;

/// A segment that was made of others.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// In order.
    pub(super) sources: Vec<Source>,
    /// Their entries that were kept, in order; none if none was.
    pub(super) segment: Option<Segment>,
    /// Whether it also takes their place in snapshots, so that nothing of them is needed.
    pub(super) everywhere: bool,
    /// The epoch that they were of.
    pub(super) as_of: u64,
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
    segments: Vec<Segment>,
    everywhere: bool,
}

/// Why it cannot be.
#[derive(Debug, thiserror::Error)]
pub(super) enum RewriteError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the captions cannot be indexed: {0}")]
    Captions(#[from] TantivyError),
    #[error("segment {segment}: {why}")]
    Vectors { segment: String, why: String },
    #[error("segment {segment} is damaged: {why}")]
    Unreadable { segment: String, why: String },
    #[error(transparent)]
    CutOff(#[from] tokio::task::JoinError),
}

impl Task {
    /// What comes next of a knowledge base, but for segments that are put aside: first what is to be forgotten.
    pub(super) fn choose(manifest: &Manifest, is_put_aside: impl Fn(&Segment) -> bool) -> Option<Self> {
        let forgets = |segment: &Segment| segment.to_forget().next().is_some();
        if let Some(segment) =
            manifest.all_segments().find(|segment| forgets(segment) && !is_put_aside(segment))
        {
            return Some(Self { segments: vec![segment.clone()], everywhere: true });
        }
        let mut runs = manifest.segments.split(|segment| forgets(segment) || is_put_aside(segment));
        let segments = runs.find_map(|run| Some(run[compaction::choose(run)?].to_vec()))?;
        Some(Self { segments, everywhere: false })
    }

    /// Whether something is to be forgotten.
    pub(super) fn forgets(&self) -> bool {
        self.everywhere
    }

    /// Its segments.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Writes the segment, if all that it is made of can be read.
    pub(super) async fn run(self, base: &KnowledgeBase, folder: &Folder) -> Result<Rewritten, RewriteError> {
        let (everywhere, as_of) = (self.everywhere, base.epoch);
        let (mut sources, mut labels, mut images, mut rows) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for segment in self.segments {
            let name = segment.name.clone();
            let read = Source::read(segment, base, folder, everywhere).await;
            let (source, entries, vectors) = read.map_err(|error| error.of_segment(name))?;
            sources.push(source);
            rows.extend(vectors);
            for Entry { id, caption, attribution, metadata, image } in entries {
                labels.push(Label { id, caption, attribution, metadata });
                images.push(image);
            }
        }
        if labels.is_empty() {
            return Ok(Rewritten { sources, segment: None, everywhere, as_of });
        }
        let (dimension, kind) = (base.dimension, base.manifest.vectors);
        // Searches go on meanwhile.
        let threads = available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let vectors =
            tokio::task::spawn_blocking(move || build_index(dimension, kind, &rows, threads)).await??;
        let (labels, captions) = tokio::task::spawn_blocking(move || {
            let captions = index_captions(labels.iter().map(|label: &Label| label.caption.as_str()));
            captions.map(|captions| (labels, captions))
        })
        .await??;
        let name = Segment::new_name(base.epoch + 1);
        let images = stream::iter(images.into_iter().map(Ok::<Bytes, StorageError>));
        let segment = write_segment(folder, &name, labels, captions, vectors, images).await?;
        Ok(Rewritten { sources, segment: Some(segment), everywhere, as_of })
    }
}

impl RewriteError {
    /// The same, if it came of reading this segment: where its files are not what they should be, it does not help to try it again soon.
    fn of_segment(self, segment: String) -> Self {
        let is_damage = match &self {
            Self::Storage(error) => error.is_damage(),
            Self::Vectors { .. } | Self::Unreadable { .. } => true,
            Self::Index(_) | Self::Captions(_) | Self::CutOff(_) => false,
        };
        if is_damage { Self::Unreadable { segment, why: self.to_string() } } else { self }
    }
}

impl Source {
    /// Reads a segment, and those of its entries that are kept, with their vectors.
    async fn read(
        segment: Segment,
        base: &KnowledgeBase,
        folder: &Folder,
        everywhere: bool,
    ) -> Result<(Self, Vec<Entry>, Vec<Vec<f32>>), RewriteError> {
        let mut kept = segment.read_present(folder).await?;
        if everywhere {
            // What an epoch or a snapshot still has is kept.
            for same in base.manifest.all_segments().filter(|same| same.holds_the_same_as(&segment)) {
                kept |= same.read_present(folder).await?;
            }
        }
        if kept.is_empty() {
            return Ok((Self { segment, kept }, Vec::new(), Vec::new()));
        }
        let entries: Arc<[Entry]> = match base.part(&segment) {
            Some(part) => Arc::clone(&part.loaded.entries),
            None => segment.read_entries(folder).await?.into(),
        };
        let entries = kept.iter().filter_map(|position| entries.get(position as usize)).cloned().collect();
        let vectors = segment.read_vectors(folder).await?;
        let vectors = vectors_of(&base.manifest, &segment, vectors, kept.clone()).await?;
        Ok((Self { segment, kept }, entries, vectors))
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
        let index = match SegmentIndex::load(&vectors, entries, dimension, Searches::ONE) {
            Err(IndexError::Different(why)) => return Err(wrong(why)),
            index => index?,
        };
        let vector = |position: u32| {
            let vector = index.vector(u64::from(position))?;
            vector.ok_or_else(|| wrong(format!("it has no vector of entry {position}")))
        };
        kept.iter().map(vector).collect()
    };
    tokio::task::spawn_blocking(read).await?
}
