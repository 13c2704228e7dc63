//! What is built from files, and built anew when they change: certificates, keys, lists of callers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

/// Why nothing can be built from files.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// One cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// One does not hold what it should.
    #[error("{}: {why}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl FileError {
    /// `file` does not hold what it should.
    pub fn content(file: &Path, why: impl Into<String>) -> Self {
        Self::Content { file: file.to_owned(), why: why.into() }
    }
}

/// How often files are looked at. Kubernetes renews what it mounts within a minute.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(2);
/// What has changed is taken up if it is the same after this.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);

/// Builds a value from what files hold.
pub trait Build: Send + Sync + 'static {
    /// What is built.
    type Built: Send + Sync + 'static;

    /// The files that it is built from.
    fn files(&self) -> Vec<PathBuf>;
    /// Builds it from their contents, in the same order.
    fn build(&self, contents: &[Vec<u8>]) -> Result<Self::Built, FileError>;
}

/// What was built from files, and is built anew when they change, until it is dropped.
#[derive(Debug)]
pub struct Watched<T> {
    built: Arc<RwLock<Arc<T>>>,
    _looking: AbortOnDropHandle<()>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files of `builder`, and looks at them again and again.
    ///
    /// # Errors
    /// If a file cannot be read, or what it holds cannot be used. Later that leaves all as it is, and is logged.
    pub async fn start(builder: impl Build<Built = T>) -> Result<Self, FileError> {
        let contents = read_all(&builder.files()).await?;
        let built = Arc::new(RwLock::new(Arc::new(builder.build(&contents)?)));
        let looking = Looking { builder, built: Arc::clone(&built), contents, missing: 0 };
        Ok(Self { built, _looking: AbortOnDropHandle::new(tokio::spawn(looking.again_and_again())) })
    }

    /// What was built last.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.built.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Looks at files that may change.
struct Looking<B: Build> {
    builder: B,
    built: Arc<RwLock<Arc<B::Built>>>,
    /// What the files held when they were read last.
    contents: Vec<Vec<u8>>,
    /// Looks in a row that found no file.
    missing: u32,
}

impl<B: Build> Looking<B> {
    async fn again_and_again(mut self) {
        loop {
            tokio::time::sleep(LOOKED_AT_EVERY).await;
            self.again().await;
        }
    }

    /// Builds it anew if the files have changed. What cannot be used leaves all as it is, and is told once.
    async fn again(&mut self) {
        let files = self.builder.files();
        let contents = match read_all(&files).await {
            Ok(contents) => contents,
            // In the middle of an exchange a file may be missing for a moment.
            Err(error) => {
                self.missing += 1;
                if self.missing == 2 {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a file is gone; what it held stays in use until there is another"
                    );
                }
                return;
            }
        };
        self.missing = 0;
        if self.contents == contents {
            return;
        }
        // Somebody may be writing: half a file can be a valid one.
        tokio::time::sleep(SETTLES_WITHIN).await;
        if read_all(&files).await.ok().as_ref() != Some(&contents) {
            return;
        }
        match self.builder.build(&contents) {
            Ok(built) => {
                *self.built.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(built);
                tracing::info!(files = ?files, "files have changed; what they hold is used from now on");
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a file has changed and cannot be used; what it held before stays in use"
            ),
        }
        self.contents = contents;
    }
}

async fn read_all(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, FileError> {
    let read = async |file: &PathBuf| {
        tokio::fs::read(file).await.map_err(|source| FileError::Read { file: file.clone(), source })
    };
    futures::future::try_join_all(files.iter().map(read)).await
}
