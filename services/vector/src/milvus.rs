//! Segments whose vectors are in a Milvus (Wang et al., 2021), for knowledge bases that one process cannot hold.
//!
//! Each segment of a knowledge base is a collection there: its different vectors and their keys ([`EqualVectors`]), under a name that is
//! made of what it holds. Replicas of this service share it; those that need it while it is not complete write it, all the same. One whose
//! epoch nobody serves any more is dropped ([`tidy`]). The object store stays the truth: a Milvus that lost everything is filled again.

mod client;
mod filter;
mod tidy;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reverie_knowledge::epoch::{Manifest, Segment};
use reverie_knowledge::index::{EqualVectors, IndexError, Searches, SegmentIndex};
use reverie_knowledge::{Hit, UnitVector};
use reverie_service_kit::client::Addresses;
use reverie_service_kit::settings::SettingsError;
use reverie_storage::{Folder, sha256_hex};
use roaring::RoaringBitmap;
use serde::Deserialize;
use tokio::runtime::Handle;

use self::client::Client;
pub(crate) use self::tidy::tidy;
use crate::CollectionError;
use crate::vectors::SegmentVectors;

/// Bytes of vectors in one call.
const BATCH_BYTES: usize = 1 << 20;
/// How often it is looked whether what is waited for has come.
const POLL: Duration = Duration::from_millis(100);
/// How long searches may go on in an epoch of which something was forgotten.
const ENDING: Duration = Duration::from_secs(30);
/// How long Milvus may take to load a collection that is complete.
const LOADING: Duration = Duration::from_mins(10);

/// The `[milvus]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MilvusSettings {
    /// Where it is; none to search in memory.
    #[serde(deserialize_with = "Addresses::optional")]
    pub address: Option<Addresses>,
    /// File with what it is shown as a credential; "" for none.
    pub token_file: String,
    /// With what the names of our collections begin.
    pub prefix: String,
    /// How it searches.
    pub index: IndexKind,
}

/// An index of Milvus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum IndexKind {
    /// A graph in memory.
    Hnsw,
    /// A graph on disk.
    DiskAnn,
    /// Every vector is compared.
    Flat,
}

impl IndexKind {
    fn name(self) -> &'static str {
        match self {
            Self::Hnsw => "HNSW",
            Self::DiskAnn => "DISKANN",
            Self::Flat => "FLAT",
        }
    }

    /// What it is built with.
    fn built_with(self) -> &'static str {
        match self {
            Self::Hnsw => r#"{"M": 16, "efConstruction": 200}"#,
            Self::DiskAnn | Self::Flat => "{}",
        }
    }

    /// What it searches with, if it keeps so many vectors in view.
    fn searches_with(self, expansion: usize) -> String {
        match self {
            Self::Hnsw => format!(r#"{{"ef": {expansion}}}"#),
            Self::DiskAnn => format!(r#"{{"search_list": {expansion}}}"#),
            Self::Flat => "{}".to_owned(),
        }
    }
}

impl MilvusSettings {
    /// Says which key is out of range, if one is.
    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
        let is_letter = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
        let begins_well = self.prefix.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if begins_well && self.prefix.len() <= 100 && self.prefix.bytes().all(is_letter) {
            return Ok(());
        }
        let why = format!(
            "must be 1 to 100 letters, digits and _, and begin with no digit (got {:?})",
            self.prefix
        );
        Err(SettingsError::value("milvus.prefix", why))
    }
}

/// A Milvus, and how our collections are there.
#[derive(Debug)]
pub(crate) struct Milvus {
    client: Client,
    prefix: String,
    index: IndexKind,
    expansion: usize,
    /// Collections that epochs in memory have, or such that are being read, and how many have each.
    held: Mutex<BTreeMap<String, usize>>,
}

/// Holds the collections of an epoch, from before it is read until nobody searches it any more.
#[derive(Debug)]
pub(crate) struct Held {
    milvus: Arc<Milvus>,
    collections: BTreeSet<String>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.milvus.lock_held();
        for collection in &self.collections {
            if let Entry::Occupied(mut entry) = held.entry(collection.clone()) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }
}

impl Milvus {
    /// The one that the settings name, if they do; searches keep `expansion` vectors in view.
    pub(crate) fn of(
        settings: &MilvusSettings,
        expansion: usize,
    ) -> Result<Option<Arc<Self>>, SettingsError> {
        let Some(address) = &settings.address else { return Ok(None) };
        let client = Client::new(address, &settings.token_file)?;
        let MilvusSettings { prefix, index, .. } = settings;
        Ok(Some(Arc::new(Self {
            client,
            prefix: prefix.clone(),
            index: *index,
            expansion,
            held: Mutex::default(),
        })))
    }

    /// With what the names of the collections of a knowledge base with this index begin. Names of knowledge bases may have any letters.
    fn of_knowledge_base(&self, name: &str) -> String {
        format!("{}_{}_{}_", self.prefix, &sha256_hex(name.as_bytes())[..16], self.index.name())
    }

    /// The collection of a segment: another one for other vectors, and for another index.
    pub(crate) fn collection_of(&self, knowledge_base: &str, segment: &Segment) -> String {
        let files = segment.files.iter().map(|file| file.sha256.as_str());
        let content = files.collect::<Vec<_>>().join(" ");
        format!("{}{}", self.of_knowledge_base(knowledge_base), &sha256_hex(content.as_bytes())[..32])
    }

    /// The vectors of a segment, written to Milvus if they are not there.
    pub(crate) async fn segment(
        self: &Arc<Self>,
        knowledge_base: &str,
        folder: &Folder,
        segment: &Segment,
        dimension: u32,
    ) -> Result<MilvusSegment, CollectionError> {
        let collection = self.collection_of(knowledge_base, segment);
        if !self.client.has(&collection).await? {
            self.client.create(&collection, dimension).await?;
        }
        // All of this is idempotent: another replica may be at the same.
        self.client.index(&collection, self.index).await?;
        self.load(&collection).await?;
        let equal = EqualVectors::of(segment.read_keys(folder).await?.as_deref());
        if self.client.count(&collection).await? != segment.entries - equal.repeated() {
            self.write(&collection, folder, segment, dimension, &equal).await?;
        }
        Ok(MilvusSegment { milvus: Arc::clone(self), collection, equal, runtime: Handle::current() })
    }

    fn lock_held(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The collections of an epoch.
    pub(crate) fn collections_of(&self, manifest: &Manifest) -> BTreeSet<String> {
        manifest.segments.iter().map(|segment| self.collection_of(&manifest.name, segment)).collect()
    }

    /// Keeps the collections of an epoch from being dropped by this process.
    pub(crate) fn hold(self: &Arc<Self>, manifest: &Manifest) -> Held {
        let collections = self.collections_of(manifest);
        let mut held = self.lock_held();
        for collection in &collections {
            *held.entry(collection.clone()).or_default() += 1;
        }
        Held { milvus: Arc::clone(self), collections }
    }

    /// Those that are held now.
    fn held(&self) -> BTreeSet<String> {
        self.lock_held().keys().cloned().collect()
    }

    /// Whether Milvus answers.
    pub(crate) async fn check(&self) -> Result<(), CollectionError> {
        self.client.has(&self.prefix).await.map(drop)
    }

    /// The collections of a knowledge base that are there, and when each was made, since 1970.
    async fn list(&self, knowledge_base: &str) -> Result<Vec<(String, Duration)>, CollectionError> {
        self.client.list(&self.of_knowledge_base(knowledge_base)).await
    }

    /// Drops all collections of a knowledge base but those of its latest epoch, which is `current`: at once, or when the searches end that
    /// are still at work on them.
    ///
    /// # Errors
    /// They do not end for a while, or Milvus fails.
    pub(crate) async fn keep_only(&self, current: &Manifest) -> Result<(), CollectionError> {
        let needed = self.collections_of(current);
        let older: BTreeSet<String> = self.held().difference(&needed).cloned().collect();
        let dropping = async {
            loop {
                let listed = self.list(&current.name).await?.into_iter().map(|(collection, _)| collection);
                // After the list: what is not held by now is of no epoch that comes, unless another replica is ahead.
                let held = self.held();
                let gone = listed.filter(|one| !needed.contains(one) && !held.contains(one)).collect();
                self.drop_all(&gone).await?;
                if self.held().is_disjoint(&older) {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let why = || CollectionError::milvus("forgetting", "an older epoch is still searched".to_owned());
        tokio::time::timeout(ENDING, dropping).await.map_err(|_| why())?
    }

    async fn load(&self, collection: &str) -> Result<(), CollectionError> {
        self.client.load(collection).await?;
        let loading = async {
            while !self.client.is_loaded(collection).await? {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        let why =
            || CollectionError::milvus("loading a collection", format!("it is not done in {LOADING:?}"));
        tokio::time::timeout(LOADING, loading).await.map_err(|_| why())?
    }

    /// Writes all different vectors of a segment. Those that are there already stay as they are.
    async fn write(
        &self,
        collection: &str,
        folder: &Folder,
        segment: &Segment,
        dimension: u32,
        equal: &EqualVectors,
    ) -> Result<(), CollectionError> {
        let (vectors, entries) = (segment.read_vectors(folder).await?, segment.entries);
        let load = move || SegmentIndex::load(&vectors, entries, dimension, Searches::ONE);
        let index = tokio::task::spawn_blocking(load).await?.map_err(|error| match error {
            IndexError::Different(why) => CollectionError::Index { segment: segment.name.clone(), why },
            error => error.into(),
        })?;
        tracing::info!(collection, entries, "vectors are written to Milvus");
        let rows = (BATCH_BYTES / (4 * dimension as usize).max(1)).max(1);
        let keys: Vec<u64> = (0..entries).filter(|position| equal.is_key(*position)).collect();
        for keys in keys.chunks(rows) {
            let mut values = Vec::with_capacity(keys.len() * dimension as usize);
            for &key in keys {
                values.extend(index.vector(key)?.ok_or(CollectionError::Missing { key })?);
            }
            self.client.upsert(collection, keys, values, dimension).await?;
        }
        drop(index);
        if let Err(error) = self.client.flush(collection).await {
            // It is done anyway, later; Milvus limits how often it can be asked for.
            tracing::info!(collection, %error, "vectors are not flushed yet");
        }
        let seen = async {
            while self.client.count(collection).await? != keys.len() as u64 {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        let why = || {
            let why = format!("{collection} has not {} vectors after {LOADING:?}", keys.len());
            CollectionError::milvus("writing vectors", why)
        };
        tokio::time::timeout(LOADING, seen).await.map_err(|_| why())?
    }

    /// Drops these collections.
    async fn drop_all(&self, collections: &BTreeSet<String>) -> Result<(), CollectionError> {
        for collection in collections {
            self.client.drop(collection).await?;
            tracing::info!(collection, "a collection that nobody searches is dropped from Milvus");
        }
        Ok(())
    }
}

/// A segment in Milvus.
pub(crate) struct MilvusSegment {
    milvus: Arc<Milvus>,
    collection: String,
    equal: EqualVectors,
    runtime: Handle,
}

impl fmt::Debug for MilvusSegment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MilvusSegment").field("collection", &self.collection).finish_non_exhaustive()
    }
}

impl SegmentVectors for MilvusSegment {
    fn search(
        &self,
        query: &UnitVector,
        limit: usize,
        allowed: Option<&RoaringBitmap>,
        is_exact: bool,
    ) -> Result<Vec<Hit>, CollectionError> {
        let Milvus { client, index, expansion, .. } = &*self.milvus;
        if is_exact && *index != IndexKind::Flat {
            return Err(CollectionError::NotExact { index: index.name() });
        }
        if allowed.is_some_and(RoaringBitmap::is_empty) {
            return Ok(Vec::new());
        }
        // Positions are of 32 bits where they can be allowed.
        let key = |position: u32| u32::try_from(self.equal.key(position.into())).unwrap_or(position);
        let filter = match allowed {
            Some(allowed) if self.equal.repeated() > 0 => filter::of(&allowed.iter().map(key).collect()),
            Some(allowed) => filter::of(allowed),
            None => String::new(),
        };
        let with = index.searches_with((*expansion).max(limit));
        let found = client.search(&self.collection, query.values(), limit, filter, with);
        Ok(self.equal.entries(self.runtime.block_on(found)?, limit, allowed))
    }

    fn vectors(&self, positions: &[u64]) -> Result<Vec<Option<Vec<f32>>>, CollectionError> {
        let keys: Vec<u64> = positions.iter().map(|position| self.equal.key(*position)).collect();
        let found = self.runtime.block_on(self.milvus.client.vectors(&self.collection, &keys))?;
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    fn memory_bytes(&self) -> u64 {
        0
    }
}
