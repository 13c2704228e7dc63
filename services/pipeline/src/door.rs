//! What the public door does besides drawing: it passes calls on to a stage, with the deadline and the name of the caller.

use std::time::Duration;

use reverie_service_kit::Context;
use tonic::Request;

use crate::callers::Callers;
use crate::settings::Settings;
use crate::stages::Stages;

/// Passes calls on; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) stages: Stages,
    callers: Callers,
    longest: Duration,
}

impl Door {
    pub(crate) fn new(stages: Stages, settings: &Settings) -> Self {
        let longest = Duration::from_secs(settings.limits.max_request_seconds);
        Self { stages, callers: settings.callers.clone(), longest }
    }

    /// The context of a request.
    pub(crate) fn context<T>(&self, request: &Request<T>) -> Context {
        self.callers.context(request).capped(self.longest, "limits.max_request_seconds")
    }
}
