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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reverie_knowledge::epoch::{Manifest, Segment};
use reverie_knowledge::index::{EqualVectors, Searches};
use reverie_knowledge::{Hit, UnitVector};
use reverie_service_kit::Context;
use reverie_service_kit::client::Addresses;
use reverie_service_kit::settings::SettingsError;
use reverie_storage::{Folder, sha256_hex};
use roaring::RoaringBitmap;
use serde::Deserialize;
use tokio::runtime::Handle;

use self::client::{Client, Search};
pub(crate) use self::tidy::tidy;
use crate::CollectionError;
use crate::vectors::{SegmentVectors, Terms, read_index};

/// Bytes of vectors in one call.
const BATCH_BYTES: usize = 1 << 20;
/// How often it is looked whether what is waited for has come.
const POLL: Duration = Duration::from_millis(100);
/// How long it takes until what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
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
        if self.prepare(&collection, dimension).await.is_err() {
            // Another replica may be at the same: what fails then goes well after it.
            tokio::time::sleep(AGAIN).await;
            self.prepare(&collection, dimension).await?;
        }
        let equal = EqualVectors::of(segment.read_keys(folder).await?.as_deref());
        let different = segment.entries - equal.repeated();
        if self.client.count(&collection).await? != different {
            self.write(&collection, folder, segment, dimension, &equal).await?;
        }
        Ok(MilvusSegment {
            milvus: Arc::clone(self),
            collection,
            equal,
            different,
            is_whole: AtomicBool::new(true),
            runtime: Handle::current(),
        })
    }

    /// Makes a collection that is not there, and loads it.
    async fn prepare(&self, collection: &str, dimension: u32) -> Result<(), CollectionError> {
        if !self.client.has(collection).await? {
            self.client.create(collection, dimension).await?;
        }
        // Where there is the same index already, Milvus takes it for done, and Milvus Lite for an error. Without one nothing is loaded.
        let indexed = self.client.index(collection, self.index).await;
        let loaded = self.load(collection).await;
        loaded.map_err(|error| indexed.err().unwrap_or(error))
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
        let dropped = || async {
            let listed = self.list(&current.name).await?.into_iter().map(|(collection, _)| collection);
            // After the list: what is not held by now is of no epoch that comes, unless another replica is ahead.
            let held = self.held();
            let gone = listed.filter(|one| !needed.contains(one) && !held.contains(one)).collect();
            self.drop_all(&gone).await?;
            Ok(self.held().is_disjoint(&older))
        };
        until(ENDING, "forgetting", "an older epoch is still searched", dropped).await
    }

    async fn load(&self, collection: &str) -> Result<(), CollectionError> {
        self.client.load(collection).await?;
        let late = format!("{collection} is not loaded after {LOADING:?}");
        until(LOADING, "loading a collection", &late, || self.client.is_loaded(collection)).await
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
        let index = read_index(folder, segment, dimension, Searches::ONE).await?;
        let entries = segment.entries;
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
        let wanted = keys.len() as u64;
        let has_all = || async { Ok(self.client.count(collection).await? == wanted) };
        let late = format!("{collection} has not {wanted} vectors after {LOADING:?}");
        until(LOADING, "writing vectors", &late, has_all).await
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

/// Looks again and again whether something has come, for so long at most; `late` says what is wrong then.
async fn until<L: Future<Output = Result<bool, CollectionError>>>(
    limit: Duration,
    doing: &'static str,
    late: &str,
    has_come: impl Fn() -> L,
) -> Result<(), CollectionError> {
    let waiting = async {
        while !has_come().await? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| Err(CollectionError::milvus(doing, late)))
}

/// A segment in Milvus.
pub(crate) struct MilvusSegment {
    milvus: Arc<Milvus>,
    collection: String,
    equal: EqualVectors,
    /// How many different vectors it has.
    different: u64,
    /// Whether they are all there, as far as is known.
    is_whole: AtomicBool,
    runtime: Handle,
}

impl fmt::Debug for MilvusSegment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MilvusSegment").field("collection", &self.collection).finish_non_exhaustive()
    }
}

impl SegmentVectors for MilvusSegment {
    fn search(&self, queries: &[UnitVector], terms: Terms<'_>) -> Result<Vec<Vec<Hit>>, CollectionError> {
        let Milvus { client, index, expansion, .. } = &*self.milvus;
        let Terms { limit, allowed, is_exact, context } = terms;
        if is_exact && *index != IndexKind::Flat {
            return Err(CollectionError::NotExact { index: index.name() });
        }
        if allowed.is_some_and(RoaringBitmap::is_empty) {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        // Positions are of 32 bits where they can be allowed.
        let key = |position: u32| u32::try_from(self.equal.key(position.into())).unwrap_or(position);
        let filter = match allowed {
            Some(allowed) if self.equal.repeated() > 0 => filter::of(&allowed.iter().map(key).collect()),
            Some(allowed) => filter::of(allowed),
            None => String::new(),
        };
        let with = index.searches_with((*expansion).max(limit));
        let most = if allowed.is_some() { 0 } else { limit.min(self.different as usize) };
        let search = Search { queries, limit, filter, with };
        let found = self.runtime.block_on(client.search(&self.collection, search, context))?;
        // While a collection that was lost is filled again, searches find what is there already.
        let is_short = found.iter().any(|hits| hits.len() < most);
        if !self.is_whole.load(Ordering::Relaxed) || (is_short && !self.are_there()) {
            return Err(CollectionError::milvus("searching", "its vectors are being written again"));
        }
        Ok(found.into_iter().map(|hits| self.equal.entries(hits, limit, allowed)).collect())
    }

    /// All that one call here may have.
    fn at_once(&self) -> usize {
        usize::MAX
    }

    fn vectors(&self, positions: &[u64], context: Context) -> Result<Vec<Option<Vec<f32>>>, CollectionError> {
        let keys: Vec<u64> = positions.iter().map(|position| self.equal.key(*position)).collect();
        let found = self.runtime.block_on(self.milvus.client.vectors(&self.collection, &keys, context))?;
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    /// A collection that is gone cannot be counted either.
    fn are_there(&self) -> bool {
        let counted = self.runtime.block_on(self.milvus.client.count(&self.collection));
        let are_there = counted.is_ok_and(|count| count == self.different);
        self.is_whole.store(are_there, Ordering::Relaxed);
        are_there
    }

    fn memory_bytes(&self) -> u64 {
        0
    }
}
