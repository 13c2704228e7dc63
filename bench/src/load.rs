//! `reverie-bench load`: many images at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reverie::Failure;
use reverie::client::{ask, explain};
use reverie::mesh::AskArguments;
use reverie_proto::diffusion::v1::Sampling;
use reverie_proto::generation::v1::GenerateRequest;
use reverie_service_kit::output::OutputError;
use reverie_service_kit::{Address, say};
use serde_json::json;
use tokio::task::JoinSet;

use crate::spread::Spread;

/// Draws many images at once and measures when each is done.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to draw; one more is drawn first, alone, and not counted.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Images asked for at a time. Default: all at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub callers: Option<u32>,
    /// Side of the images, pixels. Default: the model's largest.
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<u32>,
    /// Steps of the base model. Default: the model's own.
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// What to draw.
    #[arg(long, default_value = "a small zunin on the left, snow")]
    pub prompt: String,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    mesh: AskArguments,
}

/// What came of one call.
struct Call {
    /// From when it was made to its end.
    took: Duration,
    /// From the start of the run to its end.
    done: Duration,
    /// The status it failed with.
    failed: Option<tonic::Code>,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let timeout = arguments.mesh.timeout();
    let measured = arguments.mesh.with_pipeline(async |address| {
        let alone = Instant::now();
        let first = ask(address, request(&arguments, 0), timeout, |_| {}).await;
        first.map_err(|status| explain(&status, timeout))?;
        let alone = alone.elapsed();
        Ok((alone, all_at_once(&arguments, address, timeout).await?))
    });
    let (alone, calls) = measured.await?;
    Ok(print(&arguments, alone, &calls)?)
}

fn request(arguments: &Arguments, seed: u32) -> GenerateRequest {
    GenerateRequest {
        prompt: arguments.prompt.clone(),
        seed: Some(u64::from(seed)),
        size: arguments.size,
        base_sampling: Some(Sampling { steps: arguments.steps, ..Sampling::default() }),
        ..GenerateRequest::default()
    }
}

async fn all_at_once(
    arguments: &Arguments,
    address: &Address,
    timeout: Duration,
) -> Result<Vec<Call>, Failure> {
    let begun = Instant::now();
    let next = Arc::new(AtomicU32::new(1));
    let mut callers = JoinSet::new();
    for _ in 0..arguments.callers.unwrap_or(arguments.images).min(arguments.images) {
        let requests: Vec<_> = (0..=arguments.images).map(|seed| request(arguments, seed)).collect();
        let (next, address) = (next.clone(), address.clone());
        callers.spawn(async move {
            let mut calls = Vec::new();
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                let made = Instant::now();
                let failed = ask(&address, request.clone(), timeout, |_| {}).await.err();
                let failed = failed.map(|status| status.code());
                calls.push(Call { took: made.elapsed(), done: begun.elapsed(), failed });
            }
            calls
        });
    }
    let mut calls = Vec::new();
    while let Some(of_one) = callers.join_next().await {
        calls.extend(of_one?);
    }
    Ok(calls)
}

fn print(arguments: &Arguments, alone: Duration, calls: &[Call]) -> Result<(), OutputError> {
    let drawn = || calls.iter().filter(|call| call.failed.is_none());
    let done = Spread::of(drawn().map(|call| call.done.as_secs_f64()));
    let took = Spread::of(drawn().map(|call| call.took.as_secs_f64()));
    let count = drawn().count();
    let mean = drawn().map(|call| call.done.as_secs_f64()).sum::<f64>() / count as f64;
    let per_second = count as f64 / done.max;
    let mut failures: BTreeMap<String, u32> = BTreeMap::new();
    for code in calls.iter().filter_map(|call| call.failed) {
        *failures.entry(format!("{code:?}")).or_default() += 1;
    }
    if arguments.json {
        let value = json!({
            "images": arguments.images, "callers": arguments.callers.unwrap_or(arguments.images),
            "alone_seconds": alone.as_secs_f64(), "drawn": count, "failures": failures,
            "first_seconds": done.min, "mean_seconds": mean, "last_seconds": done.max,
            "call_seconds": took.json(), "images_per_second": per_second,
        });
        return say!("{value}");
    }
    say!("{} images, {} at a time", arguments.images, arguments.callers.unwrap_or(arguments.images))?;
    say!("{:>20}  {:7.3} s", "one image alone", alone.as_secs_f64())?;
    say!("{:>20}  {:7.3} s", "first done after", done.min)?;
    say!("{:>20}  {mean:7.3} s", "mean")?;
    say!("{:>20}  {:7.3} s", "last done after", done.max)?;
    say!("{:>20}  {took} s", "a call")?;
    say!("{:>20}  {per_second:7.3} images/s", "throughput")?;
    for (code, count) in failures {
        say!("{count:>20}  failed: {code}")?;
    }
    Ok(())
}
