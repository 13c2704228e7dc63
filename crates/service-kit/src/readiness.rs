//! Whether the services of this process serve, for the admin server and the metric `reverie.serving`. Process-wide, because one
//! process has one admin server and one set of metrics, and a service is not there before its models are loaded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// `Ok`, or why the service does not serve.
type State = Result<(), String>;

static STATES: Mutex<BTreeMap<&'static str, State>> = Mutex::new(BTreeMap::new());

/// Notes that `service` serves, or why it does not.
pub(crate) fn set(service: &'static str, state: State) {
    STATES.lock().unwrap_or_else(PoisonError::into_inner).insert(service, state);
}

/// What was noted last of `service`.
pub(crate) fn of(service: &str) -> State {
    let states = STATES.lock().unwrap_or_else(PoisonError::into_inner);
    states.get(service).cloned().unwrap_or_else(|| Err("loading models".to_owned()))
}

/// Which services there are, and whether they serve.
pub(crate) fn all() -> Vec<(&'static str, bool)> {
    let states = STATES.lock().unwrap_or_else(PoisonError::into_inner);
    states.iter().map(|(service, state)| (*service, state.is_ok())).collect()
}
