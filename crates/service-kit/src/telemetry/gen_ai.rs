//! What the span of a call tells of the models and of what was asked of them (semantic conventions, "Generative AI"). Texts of
//! requests are told only with `telemetry.record_prompts`.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

static RECORDS_PROMPTS: AtomicBool = AtomicBool::new(false);

/// As `telemetry.record_prompts` says.
pub(super) fn record_prompts(yes: bool) {
    RECORDS_PROMPTS.store(yes, Ordering::Relaxed);
}

/// The current call asks for an image.
pub fn image(model: &str, seed: u64, prompt: &str) {
    let span = Span::current();
    span.set_attribute("gen_ai.provider.name", "reverie");
    span.set_attribute("gen_ai.operation.name", "generate_content");
    span.set_attribute("gen_ai.output.type", "image");
    span.set_attribute("gen_ai.request.model", model.to_owned());
    // An attribute has no larger numbers.
    if let Ok(seed) = i64::try_from(seed) {
        span.set_attribute("gen_ai.request.seed", seed);
    }
    if RECORDS_PROMPTS.load(Ordering::Relaxed) {
        let parts = json!([{ "role": "user", "parts": [{ "type": "text", "content": prompt }] }]);
        span.set_attribute("gen_ai.input.messages", parts.to_string());
    }
}

/// The current call searches a knowledge base.
pub fn retrieval(knowledge_base: &str, query: &str) {
    let span = Span::current();
    span.set_attribute("gen_ai.provider.name", "reverie");
    span.set_attribute("gen_ai.operation.name", "retrieval");
    span.set_attribute("gen_ai.data_source.id", knowledge_base.to_owned());
    if RECORDS_PROMPTS.load(Ordering::Relaxed) {
        span.set_attribute("gen_ai.retrieval.query.text", query.to_owned());
    }
}
