//! Where files of object storage are kept on this machine, for the whole process.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::progress::LogLines;
use crate::{Cache, Watch, cache_folder};

/// The table `[storage]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSettings {
    /// The folder of the cache; "" for `storage` in [`cache_folder`].
    pub cache: String,
    /// The most that the cache may take, GiB; 0 for no cache.
    pub cache_gib: u64,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self { cache: String::new(), cache_gib: 64 }
    }
}

/// What folders in object storage are opened with; cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) watch: Arc<dyn Watch>,
}

static OF_THE_PROCESS: OnceLock<Storage> = OnceLock::new();

impl Storage {
    /// With the cache of `settings`, and progress in the log.
    pub fn new(settings: &StorageSettings) -> Self {
        let folder = match settings.cache.as_str() {
            "" => cache_folder().map(|folder| folder.join("storage")),
            folder => Some(PathBuf::from(folder)),
        };
        let max_bytes = settings.cache_gib.saturating_mul(1 << 30);
        let cache = folder.filter(|_| max_bytes > 0).map(|folder| Arc::new(Cache::new(folder, max_bytes)));
        Self { cache, watch: Arc::new(LogLines::default()) }
    }

    /// With a cache of its own.
    pub fn with_cache(cache: Cache) -> Self {
        Self { cache: Some(Arc::new(cache)), watch: Arc::new(LogLines::default()) }
    }

    /// Tells `watch` of transfers, instead of the log.
    #[must_use]
    pub fn watched_by(self, watch: Arc<dyn Watch>) -> Self {
        Self { watch, ..self }
    }

    /// Makes it the one that folders of this process are opened with. The first call counts.
    pub fn install(self) {
        let _ = OF_THE_PROCESS.set(self);
    }

    /// The one that was installed, or one of the default settings.
    pub fn of_the_process() -> Self {
        OF_THE_PROCESS.get_or_init(|| Self::new(&StorageSettings::default())).clone()
    }
}
