//! What `reverie generate` says when the picture is done, for people and for scripts.

use std::fmt::Write as _;
use std::path::Path;

use reverie_proto::generation::v1::{NeighboursFound, StageReport};
use serde_json::{Value, json};

use crate::client::Outcome;
use crate::progress::stage_name;

fn name(report: &StageReport) -> String {
    stage_name(report.stage(), report.level)
}

/// For people.
pub fn text(outcome: &Outcome, out: &Path, sheet: Option<&Path>) -> String {
    let mut text = String::new();
    let found = &outcome.neighbours;
    if found.nothing_matched {
        let _ = writeln!(text, "{}", nothing_matched(found));
    }
    if !found.neighbours.is_empty() {
        let from = if found.knowledge_base.is_empty() {
            "your references".to_owned()
        } else {
            format!("{} (epoch {})", found.knowledge_base, found.epoch)
        };
        let _ = writeln!(text, "neighbours from {from}");
        for neighbour in &found.neighbours {
            let _ = writeln!(text, "  {:<20} {:>7.4}  {}", neighbour.id, neighbour.score, neighbour.caption);
        }
    }
    for stage in &outcome.completed.stages {
        let _ = write!(text, "{:>20} {:>7.3} s", name(stage), stage.seconds);
        if let Some(timings) = stage.timings {
            let _ = write!(
                text,
                "  (model {:.3} s, queue {:.3} s)",
                timings.model_seconds, timings.queue_seconds
            );
        }
        text.push('\n');
    }
    let Outcome { completed, image, .. } = outcome;
    let _ = writeln!(text, "{:>20} {:>7.3} s", "in all", completed.total_seconds);
    let _ = writeln!(text, "{} ({} x {}), seed {}", out.display(), image.width, image.height, completed.seed);
    if let Some(sheet) = sheet {
        let _ = writeln!(text, "{} (contact sheet)", sheet.display());
    }
    text
}

fn nothing_matched(found: &NeighboursFound) -> String {
    let without = if found.neighbours.is_empty() { "drawn without reference images" } else { "the nearest" };
    let unmatched: Vec<String> = found.unmatched_words.iter().map(|word| format!("{word:?}")).collect();
    let why = if unmatched.is_empty() {
        String::new()
    } else {
        format!(": no caption names {}", unmatched.join(", "))
    };
    format!("nothing in {} matches{why}; {without}", found.knowledge_base)
}

/// For scripts: one JSON object.
pub fn json(prompt: &str, outcome: &Outcome, out: &Path, sheet: Option<&Path>) -> Value {
    let found = &outcome.neighbours;
    let neighbours: Vec<Value> = found
        .neighbours
        .iter()
        .map(|n| {
            json!({
                "id": n.id,
                "caption": n.caption,
                "score": n.score,
                "similarity": n.similarity,
                "matched_words": n.matched_words,
                "attribution": n.attribution,
            })
        })
        .collect();
    let stages: Vec<Value> = outcome
        .completed
        .stages
        .iter()
        .map(|stage| {
            json!({
                "stage": name(stage),
                "seconds": stage.seconds,
                "queue_seconds": stage.timings.map(|timings| timings.queue_seconds),
                "compute_seconds": stage.timings.map(|timings| timings.compute_seconds),
                "model_seconds": stage.timings.map(|timings| timings.model_seconds),
                "model": stage.model.as_ref().map(|model| json!({
                    "name": model.name, "version": model.version, "digest": model.digest,
                })),
            })
        })
        .collect();
    let steps = outcome.completed.step_kinds.iter();
    let kinds: Vec<_> = steps
        .map(|&kind| reverie_proto::diffusion::v1::StepKind::try_from(kind).unwrap_or_default().as_str_name())
        .collect();
    let guidance = outcome.completed.guidance.map(|guidance| {
        // An interval without end is written as null: JSON has no infinity.
        let interval = guidance.interval.unwrap_or_default();
        json!({
            "strategy": guidance.strategy().as_str_name(),
            "text_weight": guidance.text_weight,
            "neighbour_weight": guidance.neighbour_weight,
            "interleave_ratio": guidance.interleave_ratio,
            "interleave_draw": guidance.interleave_draw().as_str_name(),
            "rescale": guidance.rescale,
            "min_sigma": interval.min_sigma,
            "max_sigma": interval.max_sigma,
        })
    });
    json!({
        "prompt": prompt,
        "picture": out,
        "sheet": sheet,
        "width": outcome.image.width,
        "height": outcome.image.height,
        "seed": outcome.completed.seed,
        "knowledge_base": found.knowledge_base,
        "epoch": found.epoch,
        "neighbours": neighbours,
        "nothing_matched": found.nothing_matched,
        "unmatched_words": found.unmatched_words,
        "stages": stages,
        "base_steps": kinds,
        "guidance": guidance,
        "total_seconds": outcome.completed.total_seconds,
    })
}
