//! `reverie-bench load`: how the mesh bears load.
//!
//! 1. `mix` says what is asked for, `arrivals` when.
//! 2. `calls` asks, in a closed or an open loop, and notes what came of each call.
//! 3. `figures` sums up, with `waste`; `objectives` judges; `report` tells.

use std::path::PathBuf;
use std::time::Duration;

use reverie::Failure;
use reverie::client::explain;
use reverie::mesh::AskArguments;
use reverie_service_kit::output;
use tokio::time::Instant;

mod arrivals;
mod calls;
mod figures;
mod mix;
mod objectives;
mod report;
mod waste;

use arrivals::{Arrival, Pattern};
use calls::{Call, Caller};
use figures::Figures;
use mix::{Kind, Mix};
use objectives::Objective;
use report::Report;
use waste::Meters;

/// Measures how the mesh bears load.
///
/// Without a rate, a fixed number of callers ask, each for its next image when it has the last one (a closed loop): this measures
/// throughput. With --rate, --overload or --trace, calls come whatever the mesh does (an open loop), and a latency counts from the
/// time at which the call was due: this measures what callers see.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Closed loop: images to draw; two more are drawn first, one after the other, and not counted.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub images: u32,
    /// Closed loop: callers that ask at a time. Default: one for each image; 8 where --overload looks for the capacity.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub callers: Option<u32>,
    /// Open loop: calls per second.
    #[arg(long, value_name = "CALLS", value_parser = rate, conflicts_with_all = ["overload", "trace"])]
    pub rate: Option<f64>,
    /// Open loop at these multiples of the capacity, one after the other, such as 1,2,5,10. A closed loop measures the capacity
    /// first.
    #[arg(long, value_name = "TIMES", value_delimiter = ',', value_parser = rate, conflicts_with = "trace")]
    pub overload: Vec<f64>,
    /// Open loop: replays the calls of a file, one JSON object per line: {"at": SECONDS, "kind": NAME, "seed": N}.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Open loop: how long calls are made, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = rate)]
    pub seconds: f64,
    /// Open loop: how calls are spread over time.
    #[arg(long, value_name = "PATTERN", default_value = "poisson")]
    pub arrivals: Pattern,
    /// Calls at once with --arrivals bursts.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub burst: u32,
    /// Seed of everything that is random about the calls.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What is asked for: a TOML file of `kind` tables (docs/load/mix.toml), instead of the four options below.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "size", "steps", "abandoned"])]
    pub mix: Option<PathBuf>,
    /// What to draw.
    #[arg(long, default_value = "a small zunin on the left, snow")]
    pub prompt: String,
    /// Side of the images, pixels. Default: the model's largest.
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<u32>,
    /// Steps of the base model. Default: the model's own.
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// Share of the calls that their callers drop before an image could be done, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub abandoned: f64,
    /// Connections over which calls are made.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub connections: u32,
    /// With --server: admin address of a service that runs models, such as <http://127.0.0.1:9090>; may be repeated. Tells how
    /// much of the models' time went to images nobody got.
    #[arg(long, value_name = "URL", requires = "server")]
    pub metrics: Vec<http::Uri>,
    /// What every run must hold to, such as `goodput_of_peak>=0.9` or `refusal_p99<=0.05`; may be repeated. The exit status is 1 if
    /// one is missed. Figures: goodput (images per second), `goodput_of_peak`, `latency_p50`, `latency_p95`, `latency_p99`,
    /// `refusal_p99` (seconds), refused, late, failed (shares of the calls), wasted (share of the models' time), recovery (seconds).
    #[arg(long = "objective", value_name = "OBJECTIVE")]
    pub objectives: Vec<Objective>,
    /// Also writes load.md, load.json and plots to this folder.
    #[arg(long, short, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    mesh: AskArguments,
}

/// Callers that look for the capacity.
const CAPACITY_CALLERS: u32 = 8;
/// After a run, an image that takes this many times as long as alone shows that the mesh is as it was.
const RECOVERED: f64 = 1.5;
/// How long that is waited for.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(1);
const RECOVERY_PAUSE: Duration = Duration::from_millis(100);

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mix = match &arguments.mix {
        Some(path) => Mix::read(path)?,
        None => Mix::new(vec![kind(&arguments)])?,
    };
    let trace =
        arguments.trace.as_deref().map(|path| arrivals::trace(path, &mix, arguments.seed)).transpose()?;
    let measured = arguments.mesh.with_pipeline(async |address| {
        let timeout = arguments.mesh.timeout();
        let caller = Caller::new(address, arguments.connections, mix, timeout);
        measure(&arguments, &caller, trace, timeout).await
    });
    let report = measured.await?;
    report.print(arguments.json)?;
    if let Some(out) = &arguments.out {
        report.write(out)?;
    }
    let missed = report.missed(&arguments.objectives);
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join("; ")).into()) }
}

/// The only kind of request, where there is no mix.
fn kind(arguments: &Arguments) -> Kind {
    Kind {
        name: "image".to_owned(),
        weight: 1.0,
        prompts: vec![arguments.prompt.clone()],
        size: arguments.size,
        steps: arguments.steps,
        abandoned: arguments.abandoned,
        ..Kind::default()
    }
}

async fn measure(
    arguments: &Arguments,
    caller: &Caller,
    trace: Option<Vec<Arrival>>,
    timeout: Duration,
) -> Result<Report, Failure> {
    let meters = match &arguments.mesh.server {
        None => Some(Meters::Here),
        Some(_) if arguments.metrics.is_empty() => None,
        Some(_) => Some(Meters::At(arguments.metrics.clone())),
    };
    // The first one finds caches empty.
    caller.one(0).await.map_err(|status| explain(&status, timeout))?;
    let (alone, rows) = caller.one(1).await.map_err(|status| explain(&status, timeout))?;
    let models: Vec<String> = rows.into_keys().collect();
    let bench = Bench { caller, meters, alone, models: &models };
    let window = Duration::from_secs_f64(arguments.seconds);
    let open = |rate| {
        let Arguments { arrivals, seconds, burst, seed, .. } = *arguments;
        arrivals::arrivals(arrivals, rate, seconds, burst, caller.mix(), seed)
    };
    let mut runs = Vec::new();
    if let Some(arrivals) = trace {
        runs.push(bench.open("trace".to_owned(), arrivals, None).await?);
    } else if let Some(rate) = arguments.rate {
        runs.push(bench.open(format!("{rate} calls/s"), open(rate), Some(window)).await?);
    } else if arguments.overload.is_empty() {
        let callers = arguments.callers.unwrap_or(arguments.images).min(arguments.images);
        runs.push(bench.closed(callers, arguments.images, arguments.seed).await?);
    } else {
        let callers = arguments.callers.unwrap_or(CAPACITY_CALLERS);
        let images = (arguments.seconds / alone.as_secs_f64()).clamp(f64::from(2 * callers), 1e6);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "2 to a million")]
        let images = images as u32;
        // Callers who wait as long as it takes find the capacity; deadlines would have some of them refused.
        let patient = Bench { caller: &caller.patient(), meters: bench.meters.clone(), ..bench };
        runs.push(patient.closed(callers, images, arguments.seed).await?);
        let capacity = runs.first().map_or(0.0, |run| run.goodput);
        if capacity <= 0.0 {
            return Err(format!("{callers} callers got no image: there is no capacity to multiply").into());
        }
        for times in &arguments.overload {
            let name = format!("{times} times the capacity");
            runs.push(bench.open(name, open(times * capacity), Some(window)).await?);
        }
    }
    Ok(Report::new(runs, alone))
}

struct Bench<'a> {
    caller: &'a Caller,
    meters: Option<Meters>,
    /// How long an image of the first kind takes alone.
    alone: Duration,
    /// What draws it.
    models: &'a [String],
}

impl Bench<'_> {
    async fn closed(&self, callers: u32, images: u32, seed: u64) -> Result<Figures, Failure> {
        let calls = arrivals::at_once(images, self.caller.mix(), seed);
        let name = format!("{callers} callers");
        self.run(name, None, self.caller.closed(callers, calls, self.alone)).await
    }

    async fn open(
        &self,
        name: String,
        arrivals: Vec<Arrival>,
        window: Option<Duration>,
    ) -> Result<Figures, Failure> {
        let last = arrivals.last().map_or(Duration::ZERO, |arrival| arrival.at);
        let begun = Instant::now();
        let mut figures = self.run(name, window, self.caller.open(arrivals, self.alone)).await?;
        let recovery = self.recovery(begun + last).await;
        figures.recovery = Some(recovery.map_or(f64::INFINITY, |time| time.as_secs_f64()));
        Ok(figures)
    }

    async fn run(
        &self,
        name: String,
        window: Option<Duration>,
        calls: impl Future<Output = Result<Vec<Call>, Failure>>,
    ) -> Result<Figures, Failure> {
        output::note(format_args!("{name} ..."));
        let before = self.read().await?;
        let calls = calls.await?;
        let mut figures = Figures::of_mix(name, &calls, window, self.caller.mix());
        if let (Some(before), Some(after)) = (before, self.read().await?) {
            figures.wasted = waste::wasted(&before, &after, &calls, self.models);
        }
        Ok(figures)
    }

    async fn read(&self) -> Result<Option<waste::Models>, Failure> {
        Ok(match &self.meters {
            Some(meters) => Some(meters.read().await?),
            None => None,
        })
    }

    /// From `last`, when the last call was made, until an image takes hardly longer than alone; none if that never happens.
    async fn recovery(&self, last: Instant) -> Option<Duration> {
        let until = Instant::now() + RECOVERY_TIMEOUT;
        for seed in 0.. {
            let took = self.caller.one(seed).await;
            if took.is_ok_and(|(took, _)| took <= self.alone.mul_f64(RECOVERED)) {
                return Some(last.elapsed());
            }
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep(RECOVERY_PAUSE).await;
        }
        None
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= mix::MOST_SECONDS);
    number.ok_or_else(|| format!("must be above 0 and at most {}", mix::MOST_SECONDS))
}
