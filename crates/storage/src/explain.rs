//! What went wrong in object storage, in words that say what to do. Servers say it in the bodies of their answers, which the
//! errors of `object_store` hold somewhere among their sources.

use std::error::Error as StdError;
use std::io;

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};

use crate::StorageError;
use crate::location::Kind;

/// Codes of servers, of all kinds of storage, each in the group that it means.
const NO_BUCKET: [&str; 4] =
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist", "bucket not found"];
const BAD_CREDENTIALS: [&str; 10] = [
    "Server failed to authenticate the request",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "TokenRefreshRequired",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "NoAuthenticationInformation",
    "invalid_grant",
];
const CLOCK: [&str; 2] = ["RequestTimeTooSkewed", "RequestExpired"];
const REGION: [&str; 3] =
    ["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"];
/// What `object_store` says of an answer that leads to nowhere, as S3 gives it to a bucket of another region.
const REDIRECT_WITHOUT_TARGET: &str = "redirect without LOCATION";
/// Where credentials of instances and containers are asked for, by addresses that answer only there.
const INSTANCE: [&str; 3] = ["169.254.", "metadata.google.internal", "/latest/api/token"];
/// What it says when the rest of a file was asked for, after the first answer had ended early, and came otherwise than asked for.
const NO_REST: [&str; 3] = ["Content-Range", "non-partial response", "Requested "];
/// The most that is repeated of what a server says.
const TOLD: usize = 300;

/// Says what an error of `file` means.
pub(crate) fn explain(kind: Option<Kind>, file: String, error: StoreError) -> StorageError {
    let Some(kind) = kind else { return local(file, error) };
    let chain = chain(&error);
    let text = chain.join(": ");
    let says = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    let why = || what_the_server_says(&chain, &text);
    if says(&NO_BUCKET) {
        return StorageError::NoBucket { file, bucket: kind.bucket() };
    }
    if says(&CLOCK) {
        return StorageError::Clock { file };
    }
    if kind == Kind::S3 && (says(&REGION) || text.contains(REDIRECT_WITHOUT_TARGET)) {
        let region = between(&text, "<Region>", "</Region>").or_else(|| between(&text, "expecting '", "'"));
        return StorageError::Region { file, region };
    }
    if says(&BAD_CREDENTIALS) || matches!(error, StoreError::Unauthenticated { .. }) {
        return StorageError::Credentials { file, why: why(), credentials: kind.credentials() };
    }
    match error {
        StoreError::NotFound { .. } => return StorageError::NotFound { file },
        StoreError::AlreadyExists { .. } => return StorageError::AlreadyExists { file },
        StoreError::PermissionDenied { .. } => {
            return StorageError::Denied {
                file,
                why: why(),
                bucket: kind.bucket(),
                credentials: kind.credentials(),
            };
        }
        StoreError::NotImplemented { .. } | StoreError::NotSupported { .. } if kind == Kind::Http => {
            return StorageError::ReadOnly { file, location_kind: "https://" };
        }
        _ => {}
    }
    if text.contains("URL scheme is not allowed") {
        return StorageError::NoTls { file, allow: kind.allow_http() };
    }
    if says(&INSTANCE) {
        let why = "there are none in the environment, and no instance or container offers any".to_owned();
        return StorageError::Credentials { file, why, credentials: kind.credentials() };
    }
    // No other request asks for a part of a file.
    if matches!(error, StoreError::Generic { .. }) && says(&NO_REST) {
        let why = "and it does not send the rest alone".to_owned();
        return StorageError::Truncated { file, why };
    }
    match transport(&error) {
        Some(Transport::Ended) => StorageError::Truncated { file, why: why() },
        Some(Transport::NoAnswer) => StorageError::Unreachable { file, why: why() },
        None => StorageError::access(file, error),
    }
}

fn local(file: String, error: StoreError) -> StorageError {
    match error {
        StoreError::NotFound { .. } => StorageError::NotFound { file },
        StoreError::AlreadyExists { .. } => StorageError::AlreadyExists { file },
        error => StorageError::access(file, error),
    }
}

/// Whether a writer at the same time, and not a file that is there, made a server refuse to create one.
pub(crate) fn is_conflict_in_flight(error: &StoreError) -> bool {
    chain(error).iter().any(|text| text.contains("ConditionalRequestConflict"))
}

enum Transport {
    /// No connection, or no answer over it.
    NoAnswer,
    /// The answer ended before its end.
    Ended,
}

/// How the connection failed, if that is what failed.
fn transport(error: &(dyn StdError + 'static)) -> Option<Transport> {
    let mut kind = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            kind = Some(match http.kind() {
                HttpErrorKind::Interrupted | HttpErrorKind::Decode => Transport::Ended,
                _ => Transport::NoAnswer,
            });
        }
        // A body that ended early is told as one of these, or in words, depending on how it ended.
        let is_end =
            error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof);
        if is_end || error.to_string().contains("end of file before message length reached") {
            return Some(Transport::Ended);
        }
        next = error.source();
    }
    kind
}

/// What each error in the chain says; the outer ones repeat the inner ones.
fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut told = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        told.push(error.to_string());
        next = error.source();
    }
    told
}

/// The server's own message, or the innermost reason.
fn what_the_server_says(chain: &[String], text: &str) -> String {
    let code = between(text, "<Code>", "</Code>");
    let message = between(text, "<Message>", "</Message>").or_else(|| between(text, "\"message\":\"", "\""));
    let told = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => chain.last().cloned().unwrap_or_default(),
    };
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    told.trim_end_matches(['.', ':', ' ']).chars().take(TOLD).collect()
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    let (found, _) = rest.split_once(end)?;
    Some(found.to_owned()).filter(|found| !found.is_empty())
}

#[cfg(test)]
mod tests;
