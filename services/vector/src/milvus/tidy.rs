//! Collections of Milvus that are not needed any more, and those that it has lost.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use reverie_knowledge::Live;

use super::Milvus;
use crate::CollectionError;
use crate::reader::Reader;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a collection has to exist that no epoch here needs, before it is dropped. Another replica may be behind with an epoch that
/// needs it, or ahead. (What is forgotten goes at once.)
const GRACE: Duration = Duration::from_hours(1);

/// Writes again what Milvus has lost of these knowledge bases, and drops what no epoch of theirs needs, as long as it is polled. If
/// `follows`, later epochs are taken up before something is dropped for its age; where nobody looks for them, nothing is.
pub(crate) async fn tidy(milvus: Arc<Milvus>, all: Vec<Arc<Live<Reader>>>, follows: bool) -> Infallible {
    let mut unneeded = BTreeMap::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        for live in &all {
            if let Err(error) = tidy_one(&milvus, live, follows.then_some(&mut unneeded)).await {
                tracing::warn!(%error, "Milvus is not tidied");
            }
        }
    }
}

/// The same for one; `unneeded` says since when a collection has not been needed.
async fn tidy_one(
    milvus: &Milvus,
    live: &Live<Reader>,
    unneeded: Option<&mut BTreeMap<String, Instant>>,
) -> Result<(), CollectionError> {
    let reader = live.reader();
    reader.restore(live).await?;
    if reader.has_forgotten() {
        reader.drop_older(live).await?;
    }
    let Some(unneeded) = unneeded else { return Ok(()) };
    // One that does not know the latest epoch cannot know what that needs.
    live.refresh().await?;
    let listed = milvus.list(&reader.name).await?;
    let needed = milvus.held();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ages = listed.into_iter().map(|(name, made)| (name, since_1970.saturating_sub(made)));
    milvus.drop_all(&expired(ages, &needed, unneeded, Instant::now())).await
}

/// Of collections, given with their ages, those that nobody needed for a while.
fn expired(
    ages: impl Iterator<Item = (String, Duration)>,
    needed: &BTreeSet<String>,
    unneeded: &mut BTreeMap<String, Instant>,
    now: Instant,
) -> BTreeSet<String> {
    let mut expired = BTreeSet::new();
    for (collection, age) in ages {
        if needed.contains(&collection) {
            unneeded.remove(&collection);
            continue;
        }
        let since = *unneeded.entry(collection.clone()).or_insert(now);
        if age > GRACE && now.duration_since(since) > GRACE {
            unneeded.remove(&collection);
            expired.insert(collection);
        }
    }
    expired
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_goes_when_it_was_not_needed_for_a_while() {
        let (begun, mut unneeded) = (Instant::now(), BTreeMap::new());
        let mut look = |after: Duration, needed: &[&str]| {
            let needed = needed.iter().map(|name| (*name).to_owned()).collect();
            let ages = [("old", 9 * GRACE), ("new", after)].map(|(name, age)| (name.to_owned(), age));
            let gone = expired(ages.into_iter(), &needed, &mut unneeded, begun + after);
            gone.into_iter().collect::<Vec<_>>()
        };
        let second = Duration::from_secs(1);
        assert_eq!(look(second, &["old", "new"]), [""; 0]);
        assert_eq!(look(2 * second, &[]), [""; 0]);
        // An epoch that is asked for by its number needs it again.
        assert_eq!(look(GRACE, &["old"]), [""; 0]);
        assert_eq!(look(GRACE + 3 * second, &[]), ["new"]);
        assert_eq!(look(2 * GRACE, &["new"]), [""; 0]);
        assert_eq!(look(2 * GRACE + 4 * second, &["new"]), ["old"]);
    }
}
