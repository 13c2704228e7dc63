//! `reverie.endpoints` (attributes `stage`, `state`): how many replicas of a stage are `live`, `ejected`, `not_serving` or `connecting`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use opentelemetry::metrics::ObservableGauge;
use opentelemetry::{KeyValue, global};

use super::endpoint::Fitness;
use super::endpoints::Endpoints;

static OBSERVED: Mutex<Vec<Weak<Endpoints>>> = Mutex::new(Vec::new());
static GAUGE: OnceLock<ObservableGauge<u64>> = OnceLock::new();

/// Reports the replicas whenever metrics are read, for as long as they are there.
pub(super) fn observe(endpoints: &Arc<Endpoints>) {
    let mut observed = OBSERVED.lock().unwrap_or_else(PoisonError::into_inner);
    observed.retain(|endpoints| endpoints.strong_count() > 0);
    observed.push(Arc::downgrade(endpoints));
    drop(observed);
    GAUGE.get_or_init(|| {
        let meter = global::meter("reverie");
        let gauge = meter.u64_observable_gauge("reverie.endpoints");
        let gauge = gauge.with_description("Replicas of a stage that this service calls, by their state.");
        let gauge = gauge.with_callback(|observer| {
            for ((stage, state), count) in counts() {
                observer.observe(count, &[KeyValue::new("stage", stage), KeyValue::new("state", state)]);
            }
        });
        gauge.build()
    });
}

/// By stage and state. The deployments of a stage are counted together.
fn counts() -> BTreeMap<(&'static str, &'static str), u64> {
    let observed = OBSERVED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut counts = BTreeMap::new();
    for endpoints in observed.iter().filter_map(Weak::upgrade) {
        for state in ["live", "ejected", "not_serving", "connecting"] {
            counts.entry((endpoints.name, state)).or_default();
        }
        for member in endpoints.members() {
            let state = match member.fitness() {
                Fitness::Live => "live",
                Fitness::Ejected => "ejected",
                Fitness::NotServing => "not_serving",
                Fitness::Unknown => "connecting",
            };
            *counts.entry((endpoints.name, state)).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Upstream;

    #[tokio::test]
    async fn each_state_is_counted_and_what_is_gone_is_not() {
        let name = "only in this test";
        let one = Upstream::new(name, "http://127.0.0.1:1".parse::<crate::Address>().unwrap());
        let other = one.clone();
        assert_eq!(counts()[&(name, "connecting")], 1);
        assert_eq!(counts()[&(name, "ejected")], 0);
        drop((one, other));
        assert!(!counts().contains_key(&(name, "live")));
    }
}
