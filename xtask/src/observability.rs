//! What services tell of themselves, taken by a real OpenTelemetry collector and a real Prometheus: traces with the status that is in
//! trailers, the same metrics both ways, JSON logs that name their spans, no text of a request anywhere, rules and dashboard that
//! Prometheus can evaluate.

pub(crate) mod background;
mod collected;
mod collector;
mod logs;
mod mesh;
mod metric_names;
mod programs;
mod prometheus;
mod sink;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::collected::Collected;
use self::collector::Collector;
use self::mesh::Mesh;
use self::programs::Programs;
use self::prometheus::Prometheus;
use crate::cargo_build::{self, Profile};
use crate::chart::monitoring;
use crate::workspace::Workspace;
use crate::{Outcome, missing, onnxruntime, wait};

/// What is asked for. Its last word is in nothing else that runs here.
const PROMPT: &str = "a large zunin in the middle, volcano";
const SECRET: &str = "volcano";
/// What Prometheus adds to the metrics of a target, and the exporter for Prometheus to those of a process.
const NOT_SENT: [&str; 2] = ["up", "target_info"];
/// The method that callers call.
const GENERATE: &str = "reverie.generation.v1.GenerationService/Generate";
/// For a scrape, on a machine that does other things.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs everything where the programs are there or can be built, and says so where not.
pub(crate) fn run_if_possible(workspace: &Workspace) -> Outcome {
    missing::skip(run(workspace))
}

/// Runs everything.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let programs = Programs::ensure()?;
    monitoring::check_rules(workspace, &programs.promtool)?;
    programs.check_compose(workspace)?;

    let binaries = cargo_build::all(Profile::Dev, workspace)?;
    let library = onnxruntime::ensure()?;
    let folder = tempfile::tempdir()?;
    let collector = Collector::start(&programs, folder.path())?;
    let mesh = Mesh::start(workspace, &binaries, &library, &collector, folder.path())?;
    let prometheus = Prometheus::start(&programs, workspace, &mesh, folder.path())?;

    mesh.generate(PROMPT, &[])?;
    // No such knowledge base: the answer has begun when that is found, so the status is in its trailers.
    if mesh.generate(PROMPT, &["--knowledge-base", "birds"]).is_ok() {
        return Err("an image was drawn with a knowledge base that does not exist".into());
    }
    let ended = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    wait::until("Prometheus to ask every service after both images", PATIENCE, || {
        let services = prometheus.value("count(up == 1)")?;
        let asked = prometheus.value("min(timestamp(up))")?;
        (services >= mesh::SERVICES.len() as f64 && asked > ended).then_some(())
    })?;
    wait::until("Prometheus to see both images", PATIENCE, || {
        let ended = |code: &str| {
            let selector = format!("rpc_method=\"{GENERATE}\",rpc_response_status_code=\"{code}\"");
            prometheus.value(&format!("rpc_server_call_duration_seconds_count{{{selector}}}")) == Some(1.0)
        };
        (ended("OK") && ended("NOT_FOUND")).then_some(())
    })?;
    let scraped = prometheus.metric_names()?;
    prometheus.check_rules(workspace)?;
    let pages = mesh.pages()?;
    let logs = mesh.stop()?;
    drop(prometheus);
    let sent = collector.stop()?;

    let collected = Collected::read(&sent)?;
    let of_prometheus = |name: &String| NOT_SENT.contains(&name.as_str()) || name.starts_with("scrape_");
    let scraped: BTreeSet<_> = scraped.into_iter().filter(|name| !of_prometheus(name)).collect();
    if scraped != collected.metrics {
        let only =
            |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>().join(", ");
        let (scrape, push) = (only(&scraped, &collected.metrics), only(&collected.metrics, &scraped));
        return Err(format!("metrics differ: only scraped: {scrape}; only by OTLP: {push}").into());
    }
    collected.check_traces(GENERATE, &mesh::SERVICES)?;
    let lines = logs::check(&logs, &collected)?;

    let texts = logs
        .iter()
        .map(|log| (log.service, &log.text))
        .chain(pages.iter().map(|(place, page)| (*place, page)));
    for (place, text) in texts.chain(sent.iter().map(|message| ("the collector", message))) {
        if let Some(line) = text.lines().find(|line| line.contains(SECRET)) {
            let shown: String = line.chars().take(500).collect();
            return Err(format!("{place} tells the prompt: {shown}").into());
        }
    }
    println!(
        "{} spans, {} metrics both ways, {lines} log lines with their spans; no prompt in any; rules and dashboard evaluate",
        collected.spans.len(),
        scraped.len(),
    );
    Ok(())
}
