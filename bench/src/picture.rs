//! `reverie-bench picture`: what one image costs.

use std::time::Duration;

use reverie::Failure;
use reverie::client::{Outcome, ask, explain};
use reverie::mesh::{Mesh, MeshArguments};
use reverie::progress::stage_name;
use reverie_proto::diffusion::v1::StageTimings;
use reverie_proto::generation::v1::{GenerateRequest, Stage};
use reverie_service_kit::output::OutputError;
use reverie_service_kit::{Address, say};
use serde_json::json;

use crate::spread::Spread;

const TIMEOUT: Duration = Duration::from_mins(5);

/// Measures a mesh in this process: seconds per image and per stage, time outside ONNX Runtime, memory.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Pictures to draw, one after another; one more is drawn first and not counted.
    #[arg(long, default_value_t = 5)]
    pub pictures: u32,
    /// What to draw.
    #[arg(long, default_value = "a small zunin on the left, snow")]
    pub prompt: String,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    mesh: MeshArguments,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let drawn = Mesh::during(&arguments.mesh, async |mesh| draw(&arguments, mesh.pipeline()).await);
    Ok(print(&arguments, &drawn.await?)?)
}

async fn draw(arguments: &Arguments, pipeline: &Address) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes = Vec::new();
    for index in 0..=arguments.pictures {
        let seed = Some(u64::from(index));
        let request =
            GenerateRequest { prompt: arguments.prompt.clone(), seed, ..GenerateRequest::default() };
        let outcome = ask(pipeline, request, TIMEOUT, |_| {}).await;
        let outcome = outcome.map_err(|status| explain(&status, TIMEOUT))?;
        if index > 0 {
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

fn print(arguments: &Arguments, outcomes: &[Outcome]) -> Result<(), OutputError> {
    let totals = Spread::of(outcomes.iter().map(|outcome| outcome.completed.total_seconds));
    let model = Spread::of(outcomes.iter().map(|outcome| {
        let timings = outcome.completed.stages.iter().filter_map(|stage| stage.timings);
        timings.map(|timings| timings.model_seconds).sum()
    }));
    let outside = Spread::of(outcomes.iter().map(|outcome| {
        let timings = outcome.completed.stages.iter().filter_map(|stage| stage.timings);
        let model: f64 = timings.map(|timings| timings.model_seconds).sum();
        100.0 * (1.0 - model / outcome.completed.total_seconds)
    }));
    let memory = peak_memory_mib();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    if arguments.json {
        let value = json!({
            "pictures": arguments.pictures, "cores": cores,
            "total_seconds": totals.json(), "model_seconds": model.json(), "outside_percent": outside.json(),
            "peak_memory_mib": memory,
        });
        return say!("{value}");
    }
    say!("{} pictures, one at a time, {cores} cores", arguments.pictures)?;
    say!("{:>20}  {totals} s", "in all")?;
    say!(
        "{:>20}  {:>7}  {:>8}  {:>12}  {:>7}  {:>7}",
        "medians, s",
        "in all",
        "in model",
        "between rows",
        "waiting",
        "else"
    )?;
    for share in shares(outcomes) {
        let Share { name, seconds, timings } = share;
        let parts = timings.map(
            |StageTimings { model_seconds: model, compute_seconds, queue_seconds: queue, .. }| {
                let between = compute_seconds - model;
                format!(
                    "  {model:8.3}  {between:12.3}  {queue:7.3}  {:7.3}",
                    seconds - compute_seconds - queue
                )
            },
        );
        say!("{name:>20}  {seconds:7.3}{}", parts.unwrap_or_default())?;
    }
    say!("{:>20}  {model} s", "denoising models")?;
    say!("{:>20}  {outside} % of the whole", "outside them")?;
    match memory {
        Some(memory) => say!("{:>20}  {memory} MiB at most", "resident"),
        None => say!("{:>20}  not known on this system", "resident"),
    }
}

/// Where the time of the pictures went, medians.
struct Share {
    name: String,
    seconds: f64,
    /// As the stage tells it.
    timings: Option<StageTimings>,
}

/// Of each stage, and of what is done after the last: encoding, for the most part.
fn shares(outcomes: &[Outcome]) -> Vec<Share> {
    let median = |part: &dyn Fn(&Outcome) -> f64| Spread::of(outcomes.iter().map(part)).median;
    let first = outcomes.first().map(|outcome| outcome.completed.stages.as_slice()).unwrap_or_default();
    let stages = first.iter().enumerate().map(|(index, stage)| {
        let of = |outcome: &Outcome| outcome.completed.stages.get(index).cloned().unwrap_or_default();
        let part = |part: fn(&StageTimings) -> f64| {
            median(&|outcome| of(outcome).timings.as_ref().map_or(0.0, part))
        };
        let timings = stage.timings.map(|timings| StageTimings {
            queue_seconds: part(|timings| timings.queue_seconds),
            compute_seconds: part(|timings| timings.compute_seconds),
            model_seconds: part(|timings| timings.model_seconds),
            ..timings
        });
        let name = stage_name(stage.stage(), stage.level);
        Share { name, seconds: median(&|outcome| of(outcome).seconds), timings }
    });
    let rest = median(&|outcome| {
        // Encoding and retrieval are at the same time.
        let before = [Stage::Encode, Stage::Retrieve];
        let (before, after): (Vec<_>, Vec<_>) =
            outcome.completed.stages.iter().partition(|stage| before.contains(&stage.stage()));
        let longest = before.iter().map(|stage| stage.seconds).fold(0.0, f64::max);
        outcome.completed.total_seconds - longest - after.iter().map(|stage| stage.seconds).sum::<f64>()
    });
    stages.chain([Share { name: "the rest".to_owned(), seconds: rest, timings: None }]).collect()
}

/// The most memory this process has had resident, MiB; Linux only.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}
