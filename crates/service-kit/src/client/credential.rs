//! What a process shows of itself to services that ask for an API key or a token: one credential, for all that it calls.

use std::sync::OnceLock;

use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderMap, HeaderValue};

static CREDENTIAL: OnceLock<HeaderValue> = OnceLock::new();

/// Shows `credential` to every service that this process calls from now on. The first one stays.
///
/// # Errors
/// That it has characters that no header can have.
pub fn show(credential: &str) -> Result<(), InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {credential}"))?;
    value.set_sensitive(true);
    let _ = CREDENTIAL.set(value);
    Ok(())
}

/// Puts it among the headers of a call, if there is one and the call has none of its own.
pub(super) fn add(headers: &mut HeaderMap) {
    if let Some(value) = CREDENTIAL.get() {
        headers.entry(AUTHORIZATION).or_insert_with(|| value.clone());
    }
}
