//! A knowledge base in memory: one epoch's entries and the index of its captions.

use std::collections::BTreeSet;
use std::sync::Arc;

use reverie_imaging::format;
use reverie_imaging::pictures::MAX_ENCODED_BYTES;
use reverie_knowledge::epoch::{Entry, MAX_ENTRY_TEXT_BYTES, Manifest};
use reverie_proto::limits::MAX_NEIGHBOURS;
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_storage::Folder;
use roaring::RoaringBitmap;

use crate::bm25::Captions;
use crate::error::KnowledgeError;
use crate::filter::Columns;
use crate::naming;
use crate::selection::{GroupBy, Selection};
use crate::subjects::Subjects;
use crate::words::words;

// The largest answer is a message between services.
const _: () =
    assert!(MAX_NEIGHBOURS as usize * (MAX_ENCODED_BYTES + MAX_ENTRY_TEXT_BYTES) < MAX_INTERNAL_MESSAGE);

/// One epoch of a knowledge base.
pub(crate) struct KnowledgeBase {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) epoch: u64,
    /// The identity of what it holds.
    pub(crate) content_digest: Arc<str>,
    /// SHA-256 of the encoder that embedded the pictures.
    pub(crate) space_digest: String,
    /// Length of the pictures' vectors.
    pub(crate) dimension: u32,
    /// A hit's key is a position in here.
    pub(crate) entries: Vec<Entry>,
    pub(crate) captions: Captions,
    pub(crate) subjects: Subjects,
    /// The metadata of the entries.
    pub(crate) columns: Columns,
    /// The positions of the entries in the order of their ids.
    by_id: Vec<u32>,
}

impl KnowledgeBase {
    /// Loads the epoch at `location`, which must be of the knowledge base `name`.
    pub(crate) async fn open(name: &str, location: &str) -> Result<Self, KnowledgeError> {
        let folder = Folder::open(location)?;
        let manifest = Manifest::read(&folder).await?;
        if manifest.name != name {
            return Err(KnowledgeError::Name { found: manifest.name });
        }
        let entries = manifest.read_entries(&folder).await?;
        for Entry { id, image, .. } in &entries {
            let wrong = |why: String| KnowledgeError::Picture { id: id.clone(), why };
            if image.len() > MAX_ENCODED_BYTES {
                return Err(wrong(format!("has {} bytes, more than {MAX_ENCODED_BYTES}", image.len())));
            }
            if format::of(image).is_none() {
                return Err(wrong("is not PNG, JPEG or WebP".to_owned()));
            }
        }
        let load = move || {
            let texts = || entries.iter().map(|entry| entry.caption.as_str());
            let (captions, subjects) = (Captions::index(texts())?, Subjects::learn(texts()));
            let mut by_id: Vec<u32> = (0..entries.len() as u32).collect();
            by_id.sort_unstable_by_key(|&position| &entries[position as usize].id);
            Ok(Self {
                content_digest: manifest.content_digest().into(),
                name: manifest.name,
                description: manifest.description,
                epoch: manifest.epoch,
                space_digest: manifest.space_digest,
                dimension: manifest.dimension,
                columns: Columns::of(&entries),
                entries,
                captions,
                subjects,
                by_id,
            })
        };
        tokio::task::spawn_blocking(load).await?
    }
}

impl KnowledgeBase {
    /// The entries that a search with this selection may find. Blocking.
    pub(crate) fn allowed(&self, selection: &Selection) -> RoaringBitmap {
        let mut allowed = match &selection.filter {
            Some(filter) => self.columns.select(filter),
            None => self.columns.all().clone(),
        };
        for id in &selection.exclude_ids {
            let found = self
                .by_id
                .binary_search_by_key(&id.as_str(), |&position| &self.entries[position as usize].id);
            if let Ok(place) = found {
                allowed.remove(self.by_id[place]);
            }
        }
        allowed
    }

    /// The group of an entry; none if it is by itself.
    pub(crate) fn group(&self, key: u64, by: &GroupBy) -> Option<String> {
        let entry = self.entries.get(usize::try_from(key).ok()?)?;
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
pub(crate) mod tests {
    use bytes::Bytes;
    use reverie_knowledge::epoch::{Metadata, NewEpoch, Value, Vectors, write_epoch};
    use reverie_proto::tensor::v1::ImageFormat;

    use super::*;

    pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    /// Writes a knowledge base "creatures" with these captions; an entry's id is its position.
    /// Gives its identity.
    pub(crate) async fn write(location: &str, captions: &[String], picture: &'static [u8]) -> String {
        let entries = captions
            .iter()
            .enumerate()
            .map(|(position, caption)| Entry {
                id: position.to_string(),
                caption: caption.clone(),
                attribution: "drawn by nobody".to_owned(),
                metadata: Metadata::from([("position".to_owned(), Value::Number(position as f64))]),
                image: Bytes::from_static(picture),
            })
            .collect();
        let epoch = NewEpoch {
            name: "creatures".to_owned(),
            description: "made-up creatures".to_owned(),
            epoch: 3,
            dimension: 4,
            space_digest: "a".repeat(64),
            entries,
            vectors: Vectors { index: Bytes::from_static(b"not looked at here"), keys: None },
        };
        write_epoch(&Folder::open(location).unwrap(), epoch).await.unwrap().content_digest()
    }

    async fn open_with(picture: &'static [u8], name: &str) -> Result<KnowledgeBase, KnowledgeError> {
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().to_str().unwrap();
        write(location, &["a dribago".to_owned()], picture).await;
        KnowledgeBase::open(name, location).await
    }

    #[tokio::test]
    async fn what_is_written_is_loaded() {
        let loaded = open_with(PNG, "creatures").await.unwrap();
        assert_eq!((loaded.epoch, loaded.dimension, loaded.entries.len()), (3, 4, 1));
        assert_eq!(format::of(&loaded.entries[0].image), Some(ImageFormat::Png));
    }

    #[tokio::test]
    async fn what_is_no_picture_or_another_knowledge_base_is_refused() {
        let error = open_with(b"GIF89a", "creatures").await.err().unwrap().to_string();
        assert!(error.contains("entry \"0\""), "{error}");
        let error = open_with(PNG, "birds").await.err().unwrap().to_string();
        assert!(error.contains("creatures"), "{error}");
    }
}
