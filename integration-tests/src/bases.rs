//! Knowledge bases that tests write to.

use std::path::Path;

use reverie_knowledge::epoch::{Manifest, VectorKind, write_empty};
use reverie_storage::Folder;

use crate::{BUNDLE, Fallible};

/// Makes an empty knowledge base of this name in `folder`, for the encoder of the bundle.
pub async fn create(folder: &Path, name: &str) -> Fallible<()> {
    let creatures = Folder::open(&format!("{BUNDLE}/knowledge/creatures"))?;
    let Manifest { dimension, space_digest, .. } = Manifest::read(&creatures).await?;
    let folder = Folder::open(&folder.display().to_string())?;
    let description = "what the test stores".to_owned();
    write_empty(&folder, name.to_owned(), description, dimension, VectorKind::F32, space_digest).await?;
    Ok(())
}
