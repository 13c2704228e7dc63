//! What a collector was sent: messages of OTLP in JSON.

use std::collections::BTreeSet;
use std::error::Error;

use serde_json::Value;

use super::metric_names;
use crate::Outcome;

/// A span.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    parent: String,
    /// `rpc.response.status_code`, if it has one.
    status: Option<String>,
}

/// Everything that was sent.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) spans: Vec<Span>,
    /// The metrics, by their names in Prometheus.
    pub(super) metrics: BTreeSet<String>,
}

impl Collected {
    /// Reads the messages.
    pub(super) fn read(messages: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut collected = Self::default();
        for message in messages {
            let message: Value = serde_json::from_str(message)?;
            for sent in items(&message["resourceSpans"]) {
                let service = attribute(&sent["resource"], "service.name").unwrap_or_default();
                for span in items(&sent["scopeSpans"]).flat_map(|scope| items(&scope["spans"])) {
                    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
                    collected.spans.push(Span {
                        service: service.clone(),
                        name: text("name"),
                        trace: text("traceId"),
                        id: text("spanId"),
                        parent: text("parentSpanId"),
                        status: attribute(span, "rpc.response.status_code"),
                    });
                }
            }
            let scopes = items(&message["resourceMetrics"]).flat_map(|sent| items(&sent["scopeMetrics"]));
            let metrics = scopes.flat_map(|scope| items(&scope["metrics"])).flat_map(metric_names::of);
            collected.metrics.extend(metrics);
        }
        Ok(collected)
    }

    /// The call of `method` that succeeded is one trace through all services; the other has the status that its trailers had.
    pub(super) fn check_traces(&self, method: &str, services: &[&str]) -> Outcome {
        let called: Vec<_> = self.spans.iter().filter(|span| span.name == method).collect();
        let mut statuses: Vec<_> =
            called.iter().map(|span| span.status.as_deref().unwrap_or("none")).collect();
        statuses.sort_unstable();
        if statuses != ["NOT_FOUND", "OK"] {
            return Err(format!(
                "the calls of {method} have the statuses {statuses:?}, not NOT_FOUND and OK"
            )
            .into());
        }
        for root in called.iter().filter(|span| span.status.as_deref() == Some("OK")) {
            let trace: Vec<_> = self.spans.iter().filter(|span| span.trace == root.trace).collect();
            let expected =
                |service: &&str| !trace.iter().any(|span| span.service == format!("reverie-{service}"));
            if let Some(missing) = services.iter().find(|service| expected(service)) {
                return Err(format!("{missing} has no span in the trace of an image").into());
            }
            let stray = trace
                .iter()
                .find(|span| span.id != root.id && !trace.iter().any(|other| other.id == span.parent));
            if let Some(stray) = stray {
                return Err(format!("nothing in its trace caused {stray:?}").into());
            }
        }
        Ok(())
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// An attribute that is a text or a whole number, which OTLP's JSON writes as a text too.
fn attribute(of: &Value, key: &str) -> Option<String> {
    let found = items(&of["attributes"]).find(|attribute| attribute["key"] == key)?;
    let value = &found["value"];
    value["stringValue"].as_str().or(value["intValue"].as_str()).map(str::to_owned)
}
