//! Measurements of calls (semantic conventions, "RPC metrics"): the duration and status of those that a server takes and of those that
//! it makes, how many are in flight, and how many may be.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// Upper bounds of the histogram of durations, in seconds: those of the conventions, and those of large images.
const SECONDS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0, 300.0,
];
/// What every method is called that no contract has: a caller cannot make new time series.
const OTHER: &str = "_OTHER";

/// The methods of all contracts, as PACKAGE.SERVICE/METHOD.
static METHODS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let Ok(set) = FileDescriptorSet::decode(reverie_proto::FILE_DESCRIPTOR_SET) else {
        return BTreeSet::new();
    };
    let mut methods = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| format!("{name}/{}", method.name())));
        }
    }
    methods
});

/// A call that is being measured.
pub(crate) struct Call {
    durations: &'static Histogram<f64>,
    method: &'static str,
    begun: Instant,
}

impl Call {
    /// A call that was taken, of the method at `path`, which is PACKAGE.SERVICE/METHOD.
    pub(crate) fn of_server(path: &str) -> Self {
        static DURATIONS: OnceLock<Histogram<f64>> = OnceLock::new();
        let what = "Duration of the calls that the service took, to their last message";
        Self::begin(DURATIONS.get_or_init(|| durations("rpc.server.call.duration", what)), path)
    }

    /// A call that is made.
    pub(crate) fn of_client(path: &str) -> Self {
        static DURATIONS: OnceLock<Histogram<f64>> = OnceLock::new();
        let what = "Duration of the calls that the service made, to their last message";
        Self::begin(DURATIONS.get_or_init(|| durations("rpc.client.call.duration", what)), path)
    }

    fn begin(durations: &'static Histogram<f64>, path: &str) -> Self {
        Self { durations, method: METHODS.get(path).map_or(OTHER, String::as_str), begun: Instant::now() }
    }

    /// It ended with `code`.
    pub(crate) fn end(&self, code: Code) {
        let attributes = [
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", self.method),
            KeyValue::new("rpc.response.status_code", name(code)),
        ];
        self.durations.record(self.begun.elapsed().as_secs_f64(), &attributes);
    }
}

fn durations(name: &'static str, description: &'static str) -> Histogram<f64> {
    global::meter("reverie-service-kit")
        .f64_histogram(name)
        .with_unit("s")
        .with_description(description)
        .with_boundaries(SECONDS.to_vec())
        .build()
}

/// Reports the places for calls of `service` that are taken, as long as `in_flight` gives them, and the `limit`.
pub(crate) fn observe(
    service: &'static str,
    limit: usize,
    in_flight: impl Fn() -> Option<usize> + Send + Sync + 'static,
) {
    let meter = global::meter("reverie-service-kit");
    let in_flight = Arc::new(in_flight);
    let calls = Arc::clone(&in_flight);
    meter
        .u64_observable_gauge("reverie.calls.in_flight")
        .with_unit("{call}")
        .with_description("Calls that are worked on; a request for several images is as many")
        .with_callback(move |observer| {
            if let Some(calls) = calls() {
                observer.observe(calls as u64, &[KeyValue::new("service", service)]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("reverie.calls.limit")
        .with_unit("{call}")
        .with_description("Calls that the service works on at a time; further ones are refused")
        .with_callback(move |observer| {
            if in_flight().is_some() {
                observer.observe(limit as u64, &[KeyValue::new("service", service)]);
            }
        })
        .build();
}

/// The name of a code in the specification of gRPC.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_those_of_the_contracts_and_no_others() {
        let known = "reverie.generation.v1.GenerationService/Generate";
        assert_eq!(Call::of_server(known).method, known);
        for unknown in
            ["", "reverie.generation.v1.GenerationService/Draw", "a/b", "grpc.health.v1.Health/Check"]
        {
            assert_eq!(Call::of_server(unknown).method, OTHER, "{unknown}");
        }
    }
}
