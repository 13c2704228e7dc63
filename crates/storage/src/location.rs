//! What a location names: a folder on this machine, or a prefix in object storage, opened with the credentials of its kind.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Once};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{ClientConfigKey, ClientOptions};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path as StorePath;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use crate::StorageError;

/// Failed requests are tried again this often, and no longer than [`RETRY_FOR`]: someone waits for the answer.
const RETRIES: usize = 4;
const RETRY_FOR: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may send nothing. A whole request takes as long as the file is large.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// A kind of object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Google,
    Azure,
    /// A plain web server, which is only read.
    Http,
    /// In memory, for tests.
    Memory,
}

impl Kind {
    /// What holds the objects, in the words of the kind.
    pub(crate) fn bucket(self) -> &'static str {
        match self {
            Self::Azure => "container",
            Self::Http => "folder",
            Self::S3 | Self::Google | Self::Memory => "bucket",
        }
    }

    /// Where its credentials are looked for.
    pub(crate) fn credentials(self) -> &'static str {
        match self {
            Self::S3 => {
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then the web identity of AWS_ROLE_ARN, then those of the container \
                 or the instance; AWS_SKIP_SIGNATURE=true reads a public bucket"
            }
            Self::Google => {
                "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS, then those of `gcloud auth application-default login`, \
                 then those of the instance; GOOGLE_SKIP_SIGNATURE=true reads a public bucket"
            }
            Self::Azure => {
                "AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_KEY, a client secret or federated token (AZURE_CLIENT_ID, \
                 AZURE_TENANT_ID), then the managed identity; AZURE_SKIP_SIGNATURE=true reads a public container"
            }
            Self::Http => "none: files behind https:// must be readable by everyone",
            Self::Memory => "none",
        }
    }

    /// The variable that lets it be reached without TLS.
    pub(crate) fn allow_http(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ALLOW_HTTP=true",
            Self::Google => "GOOGLE_ALLOW_HTTP=true",
            Self::Azure => "AZURE_ALLOW_HTTP=true",
            Self::Http | Self::Memory => "an http:// location",
        }
    }
}

/// What a location names.
#[derive(Debug)]
pub(crate) enum Location {
    /// A folder on this machine, absolute.
    Local(PathBuf),
    /// A prefix in object storage.
    Remote { store: Arc<dyn ObjectStore>, prefix: StorePath, kind: Kind },
}

impl Location {
    /// Reads a location; nothing is asked over the network.
    pub(crate) fn open(location: &str) -> Result<Self, StorageError> {
        if !is_remote(location) {
            return local_path(location).map(Self::Local);
        }
        let wrong = |why: String| StorageError::Location { location: location.to_owned(), why };
        let url = Url::parse(location).map_err(|error| wrong(error.to_string()))?;
        let scheme = url.scheme();
        if !["s3", "gs", "az", "abfs", "abfss", "http", "https"].contains(&scheme) {
            return Err(StorageError::Scheme { location: location.to_owned(), scheme: scheme.to_owned() });
        }
        if url.query().is_some() || url.fragment().is_some() || url.password().is_some() {
            return Err(wrong("it must have no password, no ? and no #".to_owned()));
        }
        let (kind, prefix) = ObjectStoreScheme::parse(&url).map_err(|error| wrong(error.to_string()))?;
        install_tls();
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_FOR };
        let (store, kind): (object_store::Result<Arc<dyn ObjectStore>>, _) = match kind {
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::new().with_client_options(client());
                let set = |builder: AmazonS3Builder, key, value| builder.with_config(key, value);
                let builder = configured::<AmazonS3ConfigKey, _>("AWS_", builder, set);
                (shared(builder.with_url(location).with_retry(retry).build()), Kind::S3)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::new().with_client_options(client());
                let set = |builder: GoogleCloudStorageBuilder, key, value| builder.with_config(key, value);
                let builder = configured::<GoogleConfigKey, _>("GOOGLE_", builder, set);
                (shared(builder.with_url(location).with_retry(retry).build()), Kind::Google)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::new().with_client_options(client());
                let set = |builder: MicrosoftAzureBuilder, key, value| builder.with_config(key, value);
                let builder = configured::<AzureConfigKey, _>("AZURE_", builder, set);
                (shared(builder.with_url(location).with_retry(retry).build()), Kind::Azure)
            }
            ObjectStoreScheme::Http => {
                let client = client().with_allow_http(scheme == "http");
                let builder = HttpBuilder::new().with_client_options(client).with_retry(retry);
                let host = &url[..url::Position::BeforePath];
                (shared(builder.with_url(host).build()), Kind::Http)
            }
            _ => return Err(wrong("it names no object storage that is known here".to_owned())),
        };
        let store = store.map_err(|error| StorageError::Setup {
            location: location.to_owned(),
            why: error.to_string(),
            credentials: kind.credentials(),
        })?;
        Ok(Self::Remote { store, prefix, kind })
    }
}

fn shared<S: ObjectStore>(store: object_store::Result<S>) -> object_store::Result<Arc<dyn ObjectStore>> {
    store.map(|store| Arc::new(store) as _)
}

/// A builder with what the environment says of its kind of storage, by the names that the builder knows. Variables win over our
/// defaults.
fn configured<K: FromStr, B>(prefix: &str, builder: B, set: fn(B, K, String) -> B) -> B {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| name.starts_with(prefix) && !value.is_empty())
        .fold(builder, |builder, (name, value)| match name.to_ascii_lowercase().parse() {
            Ok(key) => set(builder, key, value),
            Err(_) => builder,
        })
}

fn client() -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_config(ClientConfigKey::UserAgent, concat!("reverie/", env!("CARGO_PKG_VERSION")))
}

/// Chooses what TLS computes with, once in a process. Where a provider is installed already, that one stays.
pub(crate) fn install_tls() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Whether a location is a URL of object storage.
fn is_remote(location: &str) -> bool {
    location.split_once("://").is_some_and(|(scheme, _)| scheme != "file")
}

/// The absolute path of a folder that is named by a local path, absolute or relative to the working directory, or a `file://` URL.
pub fn local_path(location: &str) -> Result<PathBuf, StorageError> {
    let wrong = |why: String| StorageError::Location { location: location.to_owned(), why };
    match location.split_once("://") {
        Some(("file", _)) => Url::parse(location)
            .map_err(|error| wrong(error.to_string()))?
            .to_file_path()
            .map_err(|()| wrong("a file URL is written file:///absolute/path".to_owned())),
        Some(_) => Err(wrong("a folder on this machine is needed here: a path or a file:// URL".to_owned())),
        None => std::path::absolute(location).map_err(|error| wrong(error.to_string())),
    }
}

/// The folder of this user that Reverie keeps things in: `$REVERIE_CACHE_DIR`, else `~/Library/Caches/reverie` on macOS, else
/// `$XDG_CACHE_HOME/reverie`, else `~/.cache/reverie`. `None` if no variable says where that is.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("REVERIE_CACHE_DIR").or_else(|| {
        if cfg!(target_os = "macos") {
            variable("HOME").map(|home| home.join("Library/Caches/reverie"))
        } else {
            variable("XDG_CACHE_HOME")
                .or_else(|| variable("HOME").map(|home| home.join(".cache")))
                .map(|cache| cache.join("reverie"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_location_is_known() {
        for (location, kind, prefix) in [
            ("s3://bucket/a/b", Kind::S3, "a/b"),
            ("gs://bucket", Kind::Google, ""),
            ("https://models.example/bundles/bestiary/", Kind::Http, "bundles/bestiary"),
            ("http://127.0.0.1:9/x", Kind::Http, "x"),
        ] {
            let Location::Remote { prefix: found, kind: opened, .. } = Location::open(location).unwrap()
            else {
                panic!("{location} is local");
            };
            assert_eq!((opened, found.as_ref()), (kind, prefix), "{location}");
        }
        for location in ["models", "/models", "file:///models"] {
            assert!(matches!(Location::open(location), Ok(Location::Local(_))), "{location}");
        }
    }

    #[test]
    fn a_wrong_location_is_told() {
        for (location, told) in [
            ("ftp://host/x", "ftp:// is not supported"),
            ("s3://bucket/x?versionId=1", "no ?"),
            ("https://user:secret@host/x", "no password"),
            ("s3:///x", "s3:///x"),
            // Without an account.
            ("az://container/x", "AZURE_"),
        ] {
            let error = Location::open(location).unwrap_err().to_string();
            assert!(error.contains(told), "{location}: {error}");
        }
        assert!(local_path("s3://bucket/x").is_err());
    }
}
