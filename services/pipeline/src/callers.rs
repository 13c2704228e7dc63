//! Who asks, as the operator sees it: which metadata names a caller, and whose requests are batch.

use reverie_service_kit::Context;
use reverie_service_kit::context::{CALLER, Priority};
use reverie_service_kit::settings::SettingsError;
use serde::Deserialize;
use tonic::Request;
use tonic::metadata::{AsciiMetadataKey, MetadataValue};

use crate::access;

/// The `[callers]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callers {
    /// The metadata key whose value names the caller.
    pub metadata: String,
    /// Callers whose requests are batch, whatever they say.
    pub batch: Vec<String>,
}

impl Callers {
    /// Says which key is out of range, if one is.
    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
        match AsciiMetadataKey::from_bytes(self.metadata.as_bytes()) {
            Ok(_) if !self.metadata.bytes().any(|byte| byte.is_ascii_uppercase()) => Ok(()),
            _ => {
                let why = format!(
                    "must be a metadata key in lower case, such as {CALLER:?} (got {:?})",
                    self.metadata
                );
                Err(SettingsError::value("callers.metadata", why))
            }
        }
    }

    /// The context of a request. A caller with a credential is named by that.
    pub(crate) fn context<T>(&self, request: &Request<T>) -> Context {
        let context = Context::of(request);
        if let Some(visitor) = access::visitor(request) {
            let context = context.asked_by(visitor.name().as_bytes());
            return if visitor.is_batch() { context.with_priority(Priority::Batch) } else { context };
        }
        let name = request.metadata().get(&self.metadata).map(MetadataValue::as_bytes);
        let context = match name {
            // Who sets another key than the operator's is nobody in particular.
            None if self.metadata != CALLER => context.asked_by_nobody(),
            None => context,
            Some(name) => context.asked_by(name),
        };
        let is_batch = name.is_some_and(|name| self.batch.iter().any(|batch| batch.as_bytes() == name));
        if is_batch { context.with_priority(Priority::Batch) } else { context }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(metadata: &str) -> Callers {
        Callers { metadata: metadata.to_owned(), batch: vec!["night-job".to_owned()] }
    }

    fn context(callers: &Callers, metadata: &[(&'static str, &str)]) -> Context {
        let mut request = Request::new(());
        for (key, value) in metadata {
            request.metadata_mut().insert(*key, value.parse().unwrap());
        }
        callers.context(&request)
    }

    #[test]
    fn the_operator_says_what_names_a_caller_and_whose_requests_are_batch() {
        let by_user = callers("x-user");
        let [anna, ben, nobody, liar] =
            [&[("x-user", "anna")][..], &[("x-user", "ben")], &[], &[("x-reverie-caller", "anna")]]
                .map(|metadata| context(&by_user, metadata));
        assert!(anna.caller() != ben.caller() && anna.caller() != nobody.caller());
        assert_eq!(liar.caller(), nobody.caller());
        let night_job = context(&by_user, &[("x-user", "night-job")]);
        assert_eq!((night_job.priority(), anna.priority()), (Priority::Batch, Priority::Interactive));
    }

    #[test]
    fn a_key_that_no_metadata_can_have_is_refused() {
        assert!(callers("x-user").validate().is_ok());
        for wrong in ["", "X-User", "x user", "x-user-bin"] {
            assert!(callers(wrong).validate().is_err(), "{wrong}");
        }
    }
}
