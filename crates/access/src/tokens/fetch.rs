//! A key set behind a URL.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use reqwest::redirect::Policy;
use reverie_service_kit::causes;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{Current, lock, read};

/// How often it is asked for, and how soon after it could not be had.
const EVERY: Duration = Duration::from_mins(5);
const AGAIN: Duration = Duration::from_secs(5);
/// An unknown key is looked for no more often: anyone can make a token that names one.
const PAUSE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest set, bytes.
const MAX_BYTES: usize = 1 << 20;

/// A key set that is fetched again and again.
#[derive(Debug)]
pub(super) struct Fetched {
    current: Current,
    wanted: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Fetched {
    pub(super) fn start(url: String) -> Self {
        // reqwest finds how to speak TLS there. Somebody may have set it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (current, wanted) = (Current::default(), Arc::new(Notify::new()));
        let task = tokio::spawn(keep(url, Arc::clone(&current), Arc::clone(&wanted)));
        Self { current, wanted, _task: AbortOnDropHandle::new(task) }
    }

    /// The set, once it was fetched.
    pub(super) fn current(&self) -> Option<Arc<JwkSet>> {
        lock(&self.current).clone()
    }

    /// Fetches it soon: there may be a new key.
    pub(super) fn look_again(&self) {
        self.wanted.notify_one();
    }
}

async fn keep(url: String, current: Current, wanted: Arc<Notify>) {
    // Who answers elsewhere is somebody else.
    let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
    let mut is_told = false;
    loop {
        let fetched = match &client {
            Ok(client) => fetch(client, &url).await,
            Err(error) => Err(error.to_string()),
        };
        let is_fetched = fetched.is_ok();
        match fetched {
            Ok(keys) => {
                *lock(&current) = Some(Arc::new(keys));
                is_told = false;
            }
            Err(why) if !is_told => {
                tracing::warn!(
                    url,
                    why,
                    "the keys of tokens cannot be fetched; those from before stay in use"
                );
                is_told = true;
            }
            Err(_) => {}
        }
        if is_fetched {
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(EVERY, wanted.notified()).await;
        } else {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<JwkSet, String> {
    let told = |error: reqwest::Error| causes(&error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let mut answer =
        client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(told)?;
    if !answer.status().is_success() {
        return Err(format!("the answer is {}: redirects are not followed", answer.status()));
    }
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(told)? {
        bytes.extend_from_slice(&part);
        if bytes.len() > MAX_BYTES {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
    }
    read(&bytes)
}
