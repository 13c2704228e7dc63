//! A knowledge base in memory: one epoch's entries and the indices of its captions, segment by segment.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use reverie_imaging::format;
use reverie_imaging::pictures::MAX_ENCODED_BYTES;
use reverie_knowledge::epoch::{Deleted, Entry, MAX_ENTRY_TEXT_BYTES, Manifest, Segment};
use reverie_knowledge::{Live, Read};
use reverie_proto::limits::MAX_NEIGHBOURS;
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::telemetry::metrics;
use reverie_storage::{Folder, StorageError};
use roaring::RoaringBitmap;
use tonic::Code;

use crate::bm25::{self, Allowed, Captions, Gone};
use crate::caption_file::{self, CaptionFileError};
use crate::embedding::EmbeddingSearch;
use crate::entries::Entries;
use crate::error::KnowledgeError;
use crate::filter::Columns;
use crate::naming;
use crate::selection::{GroupBy, Selection};
use crate::subjects::{Subjects, Tokens};
use crate::thumbnails::Thumbnails;
use crate::words::words;

/// Segments that are new at once, up to which each of their entries is looked for in the others.
const FEW: usize = 8;

// The largest answer is a message between services.
const _: () =
    assert!(MAX_NEIGHBOURS as usize * (MAX_ENCODED_BYTES + MAX_ENTRY_TEXT_BYTES) < MAX_INTERNAL_MESSAGE);

/// The knowledge bases, by name.
pub(crate) type KnowledgeBases = BTreeMap<String, Arc<Live<Reader>>>;

/// How the epochs of a knowledge base are loaded.
pub(crate) struct Reader {
    /// The knowledge base that it must be.
    pub(crate) name: String,
    pub(crate) embedding: EmbeddingSearch,
    pub(crate) thumbnails: Thumbnails,
}

/// One epoch of a knowledge base.
pub(crate) struct KnowledgeBase {
    pub(crate) manifest: Manifest,
    /// See [`Manifest::name`].
    pub(crate) name: String,
    /// See [`Manifest::epoch`].
    pub(crate) epoch: u64,
    /// The identity of what it holds.
    pub(crate) content_digest: Arc<str>,
    /// SHA-256 of the encoder that embedded the pictures.
    pub(crate) space_digest: String,
    /// Length of the pictures' vectors.
    pub(crate) dimension: u32,
    /// A hit's key is one of these.
    pub(crate) entries: Entries,
    pub(crate) captions: Captions,
    pub(crate) subjects: Subjects,
    /// In the order of the manifest.
    pub(crate) parts: Vec<Part>,
}

/// A segment, and what is deleted of it.
#[derive(Clone)]
pub(crate) struct Part {
    /// The key of its first entry.
    pub(crate) first: u64,
    pub(crate) loaded: Arc<Loaded>,
    deletion: Option<Deleted>,
    /// Positions in the segment.
    pub(crate) deleted: Arc<RoaringBitmap>,
    gone: Arc<Gone>,
}

/// A segment, whatever is deleted of it.
pub(crate) struct Loaded {
    pub(crate) segment: Segment,
    /// The digests of its files, as one text.
    pub(crate) identity: Arc<str>,
    pub(crate) entries: Arc<[Entry]>,
    captions: Arc<bm25::Part>,
    tokens: Tokens,
    columns: Columns,
    /// Positions in the order of the entries' ids.
    by_id: Vec<u32>,
}

impl Read for Reader {
    /// Whoever began with one holds it.
    const MOST_KEPT: usize = 0;

    type Epoch = KnowledgeBase;
    type Error = KnowledgeError;

    async fn read(
        &self,
        folder: &Folder,
        manifest: Manifest,
        before: Option<&KnowledgeBase>,
    ) -> Result<KnowledgeBase, KnowledgeError> {
        if manifest.name != self.name {
            return Err(KnowledgeError::Name { found: manifest.name });
        }
        let (mut parts, mut first): (Vec<Part>, u64) = (Vec::new(), 0);
        for segment in &manifest.segments {
            let known = before.and_then(|before| before.part(segment));
            let loaded = match known {
                Some(part) => Arc::clone(&part.loaded),
                None => Arc::new(Loaded::read(folder, segment).await?),
            };
            let part = match known {
                Some(part) if part.deletion == segment.deleted => Part { first, ..part.clone() },
                _ => {
                    let deleted = segment.read_deleted(folder).await?;
                    Part::new(first, loaded, segment.deleted.clone(), deleted, known)
                }
            };
            first += segment.entries;
            parts.push(part);
        }
        let are_new: Vec<bool> = parts
            .iter()
            .map(|part| before.is_none_or(|before| before.part(&part.loaded.segment).is_none()))
            .collect();
        let base = move || {
            let base = KnowledgeBase::of(manifest, parts);
            base.check_ids(&are_new).map(|()| base)
        };
        tokio::task::spawn_blocking(base).await?
    }

    async fn prepare(&self, base: &KnowledgeBase) -> Result<(), KnowledgeError> {
        // So that no search of this epoch waits for it, or finds that it cannot be loaded.
        let Err(status) = self.embedding.prepare(base).await else { return Ok(()) };
        let (name, epoch, why) = (&base.name, base.epoch, status.message().to_owned());
        if status.code() == Code::FailedPrecondition {
            return Err(KnowledgeError::Vectors { why });
        }
        tracing::info!(name, epoch, why, "the vector service has not loaded it yet");
        Ok(())
    }

    fn manifest(epoch: &KnowledgeBase) -> &Manifest {
        &epoch.manifest
    }

    fn looked(&self, is_stale: bool) {
        metrics::knowledge_base_is_stale(&self.name, is_stale);
    }

    fn taken_up(&self, base: &KnowledgeBase) {
        let (name, epoch, size) = (&base.name, base.epoch, base.manifest.present());
        tracing::info!(name, epoch, digest = &*base.content_digest, size, "knowledge base loaded");
        let told = metrics::Epoch {
            number: epoch,
            entries: size,
            deleted: base.manifest.entries() - size,
            segments: base.manifest.segments.len() as u64,
        };
        metrics::knowledge_base(name, told);
        self.thumbnails.keep_only(name, base.parts.iter().map(|part| Arc::clone(&part.loaded.identity)));
    }
}

impl Loaded {
    /// Reads a segment and indexes its captions.
    async fn read(folder: &Folder, segment: &Segment) -> Result<Self, KnowledgeError> {
        let entries: Arc<[Entry]> = segment.read_entries(folder).await?.into();
        for Entry { id, image, .. } in &*entries {
            let wrong = |why: String| KnowledgeError::Picture { id: id.clone(), why };
            if image.len() > MAX_ENCODED_BYTES {
                return Err(wrong(format!("has {} bytes, more than {MAX_ENCODED_BYTES}", image.len())));
            }
            if format::of(image).is_none() {
                return Err(wrong("is not PNG, JPEG or WebP".to_owned()));
            }
        }
        let (file, segment) = (segment.read_captions(folder).await?, segment.clone());
        let damage = {
            let file = segment.captions_file().map(|file| folder.describe(&file.path)).unwrap_or_default();
            move |why: CaptionFileError| StorageError::content(file, why.to_string())
        };
        let index = move || {
            let stored = file.map(|file| caption_file::read(&file, segment.entries));
            let stored = stored.transpose().map_err(damage)?.flatten();
            let texts = || entries.iter().map(|entry| entry.caption.as_str());
            let mut by_id: Vec<u32> = (0..entries.len() as u32).collect();
            by_id.sort_unstable_by_key(|&position| &entries[position as usize].id);
            let digests: Vec<&str> = segment.files.iter().map(|file| file.sha256.as_str()).collect();
            let (captions, tokens) = match stored {
                Some(stored) => stored,
                None => (bm25::Part::index(texts())?, Tokens::read(texts())),
            };
            Ok(Self {
                identity: digests.join(" ").into(),
                captions: Arc::new(captions),
                tokens,
                columns: Columns::of(&entries),
                segment,
                by_id,
                entries,
            })
        };
        tokio::task::spawn_blocking(index).await?
    }

    /// The position of the entry of this id, which may be deleted.
    pub(crate) fn position(&self, id: &str) -> Option<u32> {
        let found =
            self.by_id.binary_search_by_key(&id, |&position| &self.entries[position as usize].id).ok()?;
        self.by_id.get(found).copied()
    }
}

impl Part {
    /// `before` is the same segment as it was loaded before.
    fn new(
        first: u64,
        loaded: Arc<Loaded>,
        deletion: Option<Deleted>,
        deleted: RoaringBitmap,
        before: Option<&Self>,
    ) -> Self {
        // Only what is deleted since is counted, if nothing came back.
        let (mut gone, counted) = match before {
            Some(before) if before.deleted.is_subset(&deleted) => {
                (Gone::clone(&before.gone), RoaringBitmap::clone(&before.deleted))
            }
            _ => Default::default(),
        };
        for position in &deleted - &counted {
            if let Some(entry) = loaded.entries.get(position as usize) {
                gone.add(&entry.caption);
            }
        }
        Self { first, loaded, deletion, deleted: Arc::new(deleted), gone: Arc::new(gone) }
    }

    fn is_present(&self, position: u32) -> bool {
        !self.deleted.contains(position)
    }

    /// The keys of its entries at these positions, in ascending order.
    fn keys<'a>(&self, positions: &'a RoaringBitmap) -> impl Iterator<Item = u32> + 'a {
        let first = self.first as u32;
        positions.iter().map(move |position| first + position)
    }
}

impl KnowledgeBase {
    /// Blocking.
    fn of(manifest: Manifest, parts: Vec<Part>) -> Self {
        let present: Allowed = parts.iter().any(|part| !part.deleted.is_empty()).then(|| {
            let mut present = RoaringBitmap::new();
            for part in &parts {
                present.extend(part.keys(&(part.loaded.columns.all() - &*part.deleted)));
            }
            Arc::new(present)
        });
        let captions = parts.iter().map(|part| (part.first, Arc::clone(&part.loaded.captions)));
        let gone = parts.iter().filter(|part| !part.deleted.is_empty()).map(|part| Arc::clone(&part.gone));
        Self {
            name: manifest.name.clone(),
            epoch: manifest.epoch,
            content_digest: manifest.content_digest().into(),
            space_digest: manifest.space_digest.clone(),
            dimension: manifest.dimension,
            manifest,
            entries: Entries::of(parts.iter().map(|part| Arc::clone(&part.loaded.entries))),
            captions: Captions::new(captions.collect(), gone.collect(), present),
            subjects: Subjects::learn_from(parts.iter().map(|part| (&part.loaded.tokens, &*part.deleted))),
            parts,
        }
    }

    /// Looks that no two entries have the same id, where one of them is in a segment that is new.
    fn check_ids(&self, are_new: &[bool]) -> Result<(), KnowledgeError> {
        if are_new.iter().filter(|is_new| **is_new).count() > FEW {
            let mut ids = HashSet::new();
            let all = self.parts.iter().flat_map(|part| {
                let present =
                    (0..part.loaded.entries.len() as u32).filter(|&position| part.is_present(position));
                present.map(|position| &part.loaded.entries[position as usize].id)
            });
            let twice = all.into_iter().find(|id| !ids.insert(id.as_str()));
            return twice.map_or(Ok(()), |id| Err(KnowledgeError::Twice { id: id.clone() }));
        }
        for (place, part) in self.parts.iter().enumerate().filter(|(place, _)| are_new[*place]) {
            let mut before = None;
            for &position in part.loaded.by_id.iter().filter(|&&position| part.is_present(position)) {
                let id = &part.loaded.entries[position as usize].id;
                let others = self.parts.iter().enumerate().filter(|(other, _)| *other != place);
                let is_there = |(_, other): (usize, &Part)| {
                    other.loaded.position(id).is_some_and(|position| other.is_present(position))
                };
                if before == Some(id) || others.into_iter().any(is_there) {
                    return Err(KnowledgeError::Twice { id: id.clone() });
                }
                before = Some(id);
            }
        }
        Ok(())
    }

    /// This segment, if the epoch has it, whatever is deleted of it.
    pub(crate) fn part(&self, segment: &Segment) -> Option<&Part> {
        self.parts.iter().find(|part| part.loaded.segment.holds_the_same_as(segment))
    }

    /// The key of the entry of this id.
    pub(crate) fn key(&self, id: &str) -> Option<u64> {
        self.parts.iter().rev().find_map(|part| {
            let position = part.loaded.position(id).filter(|&position| part.is_present(position))?;
            Some(part.first + u64::from(position))
        })
    }

    /// The segment that the entry of a key is in, and its position there.
    pub(crate) fn place(&self, key: u64) -> Option<(&Part, u32)> {
        let (place, position) = self.segment_of(key)?;
        let part = self.parts.get(place)?;
        (u64::from(position) < part.loaded.segment.entries).then_some((part, position))
    }

    /// The place of the segment that the entry of a key is in, and its position there.
    pub(crate) fn segment_of(&self, key: u64) -> Option<(usize, u32)> {
        let place = self.parts.iter().rposition(|part| part.first <= key)?;
        let position = u32::try_from(key - self.parts.get(place)?.first).ok()?;
        Some((place, position))
    }

    /// The entries that a search with this selection may find. Blocking.
    pub(crate) fn allowed(&self, selection: &Selection) -> RoaringBitmap {
        let mut allowed = RoaringBitmap::new();
        for part in &self.parts {
            let columns = &part.loaded.columns;
            let mut own = match &selection.filter {
                Some(filter) => columns.select(filter),
                None => columns.all().clone(),
            };
            own -= &*part.deleted;
            if part.first == 0 {
                allowed = own;
            } else {
                allowed.extend(part.keys(&own));
            }
        }
        for key in selection.exclude_ids.iter().filter_map(|id| self.key(id)) {
            allowed.remove(key as u32);
        }
        allowed
    }

    /// The group of an entry; none if it is by itself.
    pub(crate) fn group(&self, key: u64, by: &GroupBy) -> Option<String> {
        let entry = self.entries.get(key)?;
        if let Some(key) = &by.key {
            return entry.metadata.get(key).map(|value| format!("{value:?}"));
        }
        let words = words(&entry.caption).into_iter().collect();
        let subject: BTreeSet<&str> = self.subjects.of_caption(&words).into_iter().collect();
        (!subject.is_empty()).then(|| subject.into_iter().collect::<Vec<_>>().join(" "))
    }

    /// Where names are looked for.
    pub(crate) fn names(&self) -> naming::Base<'_> {
        naming::Base { captions: &self.captions, subjects: &self.subjects, entries: &self.entries }
    }
}

#[cfg(test)]
pub(crate) mod tests;
