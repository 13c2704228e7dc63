//! `reverie-bench picture`: what one image costs.

use std::time::Duration;

use reverie::Failure;
use reverie::client::{Outcome, ask, explain};
use reverie::mesh::{Mesh, MeshArguments};
use reverie::progress::stage_name;
use reverie_proto::generation::v1::GenerateRequest;
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
    for (index, stage) in
        outcomes.first().map(|o| o.completed.stages.clone()).unwrap_or_default().iter().enumerate()
    {
        let seconds =
            outcomes.iter().filter_map(|outcome| Some(outcome.completed.stages.get(index)?.seconds));
        say!("{:>20}  {} s", stage_name(stage.stage(), stage.level), Spread::of(seconds))?;
    }
    say!("{:>20}  {model} s", "denoising models")?;
    say!("{:>20}  {outside} % of the whole", "outside them")?;
    match memory {
        Some(memory) => say!("{:>20}  {memory} MiB at most", "resident"),
        None => say!("{:>20}  not known on this system", "resident"),
    }
}

/// The most memory this process has had resident, MiB; Linux only.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}
