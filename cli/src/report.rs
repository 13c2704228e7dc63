//! What `reverie generate` says when the picture is done, for people and for scripts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use reverie_proto::diffusion::v1::StepKind;
use reverie_proto::generation::v1::{GeneratedImage, ImageReport, NeighboursFound, Stage, StageReport};
use reverie_proto::knowledge::v1::{MisspeltWord, Neighbour};
use serde_json::{Value, json};

use crate::client::Outcome;
use crate::progress::stage_name;

fn name(report: &StageReport) -> String {
    stage_name(report.stage(), report.level)
}

/// The images with their files and reports, by index.
fn images<'a>(
    outcome: &'a Outcome,
    files: &'a [PathBuf],
) -> impl Iterator<Item = (&'a PathBuf, &'a GeneratedImage, Option<&'a ImageReport>)> {
    let reports = outcome.completed.images.iter().map(Some).chain(std::iter::repeat(None));
    files.iter().zip(&outcome.images).zip(reports).map(|((file, image), report)| (file, image, report))
}

/// For people. Of several images, only the stages that ran once for all are listed.
pub fn text(outcome: &Outcome, files: &[PathBuf], sheet: Option<&Path>) -> String {
    let mut text = String::new();
    let found = &outcome.neighbours;
    if found.nothing_matched {
        let _ = writeln!(text, "{}", nothing_matched(found));
    } else if !found.unmatched_words.is_empty() {
        let _ = writeln!(text, "no caption names {}", unmatched(found));
    }
    for word in &found.misspelt_words {
        let _ = writeln!(text, "{}", misspelt(word));
    }
    if !found.neighbours.is_empty() {
        let from = if found.knowledge_base.is_empty() {
            "your references".to_owned()
        } else {
            format!("{} (epoch {})", found.knowledge_base, found.epoch)
        };
        let _ = writeln!(text, "neighbours from {from}");
        for neighbour in &found.neighbours {
            let _ = writeln!(text, "  {}", neighbour_line(neighbour));
        }
    }
    let own = outcome.completed.images.first().map_or(0, |first| first.stages.len());
    let own = if files.len() > 1 { own } else { 0 };
    for stage in outcome.completed.stages.iter().rev().skip(own).rev() {
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
    let _ = writeln!(text, "{:>20} {:>7.3} s", "in all", outcome.completed.total_seconds);
    for (file, image, report) in images(outcome, files) {
        let size = image.image.as_ref().map_or((0, 0), |image| (image.width, image.height));
        let seed = report.map_or(outcome.completed.seed, |report| report.seed);
        let _ = write!(text, "{} ({} x {}), seed {seed}", file.display(), size.0, size.1);
        if image.degraded {
            let levels = outcome.started.stages().filter(|stage| *stage == Stage::SuperResolution).count();
            let _ = write!(text, ", degraded: level {} of {levels}, there was no time for more", image.level);
        }
        text.push('\n');
    }
    if let Some(sheet) = sheet {
        let _ = writeln!(text, "{} (contact sheet)", sheet.display());
    }
    text
}

fn nothing_matched(found: &NeighboursFound) -> String {
    let without = if found.neighbours.is_empty() { "drawn without reference images" } else { "the nearest" };
    let why = if found.unmatched_words.is_empty() {
        String::new()
    } else {
        format!(": no caption names {}", unmatched(found))
    };
    format!("nothing in {} matches{why}; {without}", found.knowledge_base)
}

fn unmatched(found: &NeighboursFound) -> String {
    let words: Vec<String> = found.unmatched_words.iter().map(|word| format!("{word:?}")).collect();
    words.join(", ")
}

/// What was looked for in the place of a word, for people.
pub(crate) fn misspelt(MisspeltWord { word, read_as }: &MisspeltWord) -> String {
    format!("no caption names {word:?}, read as {}", read_as.join(", "))
}

/// What was looked for in the place of words, for scripts.
pub(crate) fn misspelt_json(words: &[MisspeltWord]) -> Value {
    words.iter().map(|MisspeltWord { word, read_as }| json!({"word": word, "read_as": read_as})).collect()
}

/// A neighbour for people.
pub(crate) fn neighbour_line(neighbour: &Neighbour) -> String {
    format!("{:<20} {:>7.4}  {}", neighbour.id, neighbour.score, neighbour.caption)
}

/// A neighbour for scripts.
pub(crate) fn neighbour_json(neighbour: &Neighbour) -> Value {
    json!({
        "id": neighbour.id,
        "caption": neighbour.caption,
        "score": neighbour.score,
        "similarity": neighbour.similarity,
        "matched_words": neighbour.matched_words,
        "attribution": neighbour.attribution,
    })
}

fn stages_json(stages: &[StageReport]) -> Vec<Value> {
    let stage = |stage: &StageReport| {
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
    };
    stages.iter().map(stage).collect()
}

fn kinds_json(kinds: &[i32]) -> Vec<&'static str> {
    kinds.iter().map(|&kind| StepKind::try_from(kind).unwrap_or_default().as_str_name()).collect()
}

/// For scripts: one JSON object. What `images` has of each is beside it for the first, after the stages that ran once for all.
pub fn json(prompt: &str, outcome: &Outcome, files: &[PathBuf], sheet: Option<&Path>) -> Value {
    let found = &outcome.neighbours;
    let neighbours: Vec<Value> = found.neighbours.iter().map(neighbour_json).collect();
    let images = images(outcome, files).map(|(file, image, report)| {
        let size = image.image.as_ref().map(|image| (image.width, image.height)).unwrap_or_default();
        json!({
            "picture": file,
            "index": image.index,
            "seed": report.map_or(outcome.completed.seed, |report| report.seed),
            "width": size.0,
            "height": size.1,
            "degraded": image.degraded,
            "level": image.level,
            "stages": report.map(|report| stages_json(&report.stages)),
            "base_steps": report.map(|report| kinds_json(&report.step_kinds)),
            "total_seconds": report.map(|report| report.total_seconds),
        })
    });
    let images: Vec<Value> = images.collect();
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
        "picture": files.first(),
        "sheet": sheet,
        "width": outcome.image.width,
        "height": outcome.image.height,
        "seed": outcome.completed.seed,
        "knowledge_base": found.knowledge_base,
        "epoch": found.epoch,
        "neighbours": neighbours,
        "nothing_matched": found.nothing_matched,
        "unmatched_words": found.unmatched_words,
        "misspelt_words": misspelt_json(&found.misspelt_words),
        "stages": stages_json(&outcome.completed.stages),
        "base_steps": kinds_json(&outcome.completed.step_kinds),
        "guidance": guidance,
        "total_seconds": outcome.completed.total_seconds,
        "degraded": outcome.completed.degraded,
        "images": images,
    })
}
