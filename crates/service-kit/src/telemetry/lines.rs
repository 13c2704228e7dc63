//! Log lines as JSON, with the span that they belong to.

use std::fmt;

use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::context::PROBE;

/// One JSON object per line; those that belong to a request have the `trace_id` and the `span_id` of its trace.
pub(super) struct JsonLines(pub(super) Format<Json>);

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let current = opentelemetry::Context::current();
        let (span, object) = (current.span().span_context().clone(), line.trim_end().strip_suffix('}'));
        match object {
            Some(object) if span.is_valid() && span.trace_id() != PROBE => {
                let (trace, span) = (span.trace_id(), span.span_id());
                writeln!(writer, r#"{object},"trace_id":"{trace}","span_id":"{span}"}}"#)
            }
            _ => writer.write_str(&line),
        }
    }
}
