//! Why nothing was imported, in words that say what to do.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::source::Source;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or folder that is needed is not there.
    #[error("{}: there is no such file; {why}", path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// What it is needed for.
        why: String,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A link that leads out of what is imported.
    #[error(
        "{}: is a symbolic link; import a copy with real files (cp -rL), for it leads out of {}", path.display(), bounds.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
        /// What links may lead to.
        bounds: PathBuf,
    },
    /// A path that leads out of the folder.
    #[error("{}: names the file {named:?}, which is no plain file name", path.display())]
    Outside {
        /// The file that names it.
        path: PathBuf,
        /// The name.
        named: String,
    },
    /// Larger than such a file can be.
    #[error("{}: has {size_bytes} bytes, at most {max_bytes} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// A file that does not say what it should.
    #[error("{}: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something that is not served here.
    #[error("{} cannot be imported: {why}", path.display())]
    Unsupported {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The bundle is there already.
    #[error("{}: exists already; nothing is overwritten", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
}

impl ImportError {
    pub(crate) fn wrong(path: &Path, why: impl Display) -> Self {
        Self::Wrong { path: path.to_owned(), why: format!("{why}") }
    }

    pub(crate) fn unsupported(source: &Source, why: impl Display) -> Self {
        Self::Unsupported { path: source.root().to_owned(), why: format!("{why}") }
    }

    /// For `map_err`: what was being done to `path`.
    pub(crate) fn access(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Access { path: path.to_owned(), source }
    }
}
