//! The logs of the services: JSON, and those of a request name its spans.

use std::error::Error;

use serde_json::Value;

use super::collected::Collected;

/// What a service logged.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) service: &'static str,
    pub(super) text: String,
}

/// Compares the logs with what was collected. Gives the number of lines that name a span, of which there must be some.
pub(super) fn check(logs: &[Log], collected: &Collected) -> Result<usize, Box<dyn Error>> {
    let mut with_span = 0;
    for Log { service, text } in logs {
        for line in text.lines() {
            let said: Value = serde_json::from_str(line)
                .map_err(|error| format!("{service} logged no JSON: {error}: {line}"))?;
            let (Some(trace), span) = (said["trace_id"].as_str(), said["span_id"].as_str()) else { continue };
            let found = collected.spans.iter().find(|known| Some(known.id.as_str()) == span);
            if found.is_none_or(|found| found.trace != trace || found.service != format!("reverie-{service}"))
            {
                return Err(format!("{service} names a span that it did not send: {line}").into());
            }
            with_span += 1;
        }
    }
    if with_span == 0 { Err("no log line names a span".into()) } else { Ok(with_span) }
}
