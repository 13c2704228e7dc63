//! API keys, in a file that is read again when it changes. The file has their SHA-256 alone: a key is 256 random bits, which nobody
//! finds by trying (unlike a password, which would need a slow hash).

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use reverie_service_kit::Refusal;
use reverie_service_kit::watched::{Build, FileError, Watched};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Caller, LimitSettings, Scope};

/// What every API key begins with, so that programs that look for leaked secrets can find it.
pub const PREFIX: &str = "rvk_";

/// The key whose random part is `secret`.
pub fn of_secret(secret: [u8; 32]) -> String {
    format!("{PREFIX}{}", hex::encode(secret))
}

/// What a file of keys has of `key`.
pub fn digest(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

/// The keys of a file.
#[derive(Debug)]
pub(crate) struct Keys(Watched<ByDigest>);

impl Keys {
    pub(crate) async fn start(file: &Path) -> Result<Self, FileError> {
        Ok(Self(Watched::start(File(file.to_owned())).await?))
    }

    /// The caller whose key this is. Keys are found by their digests, so that the time it takes tells nothing of them.
    pub(crate) fn find(&self, key: &str, now: SystemTime) -> Result<Arc<Caller>, Refusal> {
        let keys = self.0.current();
        let Some((caller, expires)) = keys.get(&digest(key)) else {
            return Err(Refusal::unauthenticated("the API key is not known"));
        };
        if expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::unauthenticated("the API key has expired"));
        }
        Ok(Arc::clone(caller))
    }
}

/// Callers and when their keys expire, by the digests of these.
type ByDigest = HashMap<String, (Arc<Caller>, Option<SystemTime>)>;

struct File(PathBuf);

impl Build for File {
    type Built = ByDigest;

    fn files(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<ByDigest, FileError> {
        let text = String::from_utf8_lossy(&contents[0]);
        read(&text).map_err(|why| FileError::content(&self.0, why))
    }
}

/// One `[[keys]]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    scopes: BTreeSet<Scope>,
    expires: Option<String>,
    knowledge_bases: Option<Vec<String>>,
    #[serde(default)]
    batch: bool,
    #[serde(default)]
    limits: LimitSettings,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    #[serde(default)]
    keys: Vec<Entry>,
}

/// Says what is wrong with the text of a file of keys.
///
/// # Errors
/// That.
pub fn check(text: &str) -> Result<(), String> {
    read(text).map(|_| ())
}

fn read(text: &str) -> Result<ByDigest, String> {
    let all: All = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut found = ByDigest::new();
    let mut limits: HashMap<String, LimitSettings> = HashMap::new();
    for entry in all.keys {
        let Entry { name, sha256, scopes, expires, knowledge_bases, batch, limits: own } = entry;
        if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
            return Err(format!("the name {name:?} must have 1 to 100 bytes and no control characters"));
        }
        let is_digest =
            sha256.len() == 64 && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_digest {
            return Err(format!("sha256 of {name:?} must be 64 digits, 0 to 9 and a to f"));
        }
        let expires = match expires {
            Some(text) => {
                let read = OffsetDateTime::parse(&text, &Rfc3339);
                Some(
                    read.map_err(|_| {
                        format!("expires of {name:?} must be like 2027-01-31T00:00:00Z (got {text:?})")
                    })?
                    .into(),
                )
            }
            None => None,
        };
        // While keys are exchanged a caller has two; it has one account.
        if *limits.entry(name.clone()).or_insert(own) != own {
            return Err(format!("the keys of {name:?} have different limits"));
        }
        let caller = Caller {
            name: name.clone(),
            scopes,
            knowledge_bases,
            is_batch: batch,
            limits: own,
            is_listed: true,
        };
        if found.insert(sha256, (Arc::new(caller), expires)).is_some() {
            return Err(format!("the key of {name:?} is there twice"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_has_wrong_is_named() {
        let digest = digest("rvk_x");
        let entry = |rest: &str| {
            format!("[[keys]]\nname = 'studio'\nsha256 = '{digest}'\nscopes = ['generate']\n{rest}\n")
        };
        assert_eq!(read("").unwrap().len(), 0);
        assert_eq!(
            read(&entry("expires = '2027-01-31T00:00:00Z'\nknowledge_bases = ['birds']")).unwrap().len(),
            1
        );
        for (text, why) in [
            (entry("colour = 1"), "colour"),
            (entry("").replace("'generate'", "'draw'"), "there is no scope \"draw\""),
            (entry("").replace("studio", ""), "the name"),
            (entry("").replace(&digest, "abc"), "sha256 of \"studio\""),
            (entry("").replace(&digest, &digest.to_uppercase()), "sha256 of \"studio\""),
            (entry("expires = 'soon'"), "expires of \"studio\""),
            (entry("") + &entry(""), "there twice"),
            (entry("[keys.limits]\nrequests = 1"), "requests"),
            (
                entry("") + &entry("limits = { in_flight = 2 }").replace(&digest, &super::digest("rvk_y")),
                "different limits",
            ),
            ("keys = 7".to_owned(), "expected a sequence"),
        ] {
            let told = read(&text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn a_mistake_in_a_file_does_not_tell_a_key() {
        let digest = digest("rvk_secret");
        let told =
            read(&format!("[[keys]]\nname = 'a'\nsha256 = '{digest}'\nscopes = []\nsha256 = '{digest}'"))
                .unwrap_err();
        assert!(!told.contains(&digest), "{told}");
    }
}
