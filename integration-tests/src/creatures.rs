//! The creatures of the sample knowledge base, read from its files and not from the services that are tested.

use reverie_knowledge::epoch::{Entry, Manifest};
use reverie_storage::Folder;

use crate::{BUNDLE, Fallible};

/// All entries of the knowledge base.
pub async fn entries() -> Fallible<Vec<Entry>> {
    let folder = Folder::open(&format!("{BUNDLE}/knowledge/creatures"))?;
    Ok(Manifest::read(&folder).await?.read_entries(&folder).await?)
}

/// Names of `count` creatures, from all over the knowledge base.
pub async fn names(count: usize) -> Fallible<Vec<String>> {
    let entries = entries().await?;
    let mut names: Vec<&str> = entries.iter().filter_map(|entry| name_of(&entry.id)).collect();
    names.dedup();
    let apart = (names.len() / count.max(1)).max(1);
    let chosen: Vec<String> = names.into_iter().step_by(apart).take(count).map(str::to_owned).collect();
    if chosen.len() == count { Ok(chosen) } else { Err(format!("only {} creatures", chosen.len()).into()) }
}

/// The creature that an entry shows: the views of a creature are NAME-1, NAME-2 and so on.
pub fn name_of(id: &str) -> Option<&str> {
    id.rsplit_once('-').map(|(name, _)| name)
}
