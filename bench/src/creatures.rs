//! `reverie-bench creatures`: CreatureDrawBench, after EntityDrawBench of Re-Imagen (Chen et al. 2023, section 4.3).
//!
//! 1. `benchmark` says what is asked for: creatures that no model was trained on, prompts, the true drawings.
//! 2. `arms` are the ways of asking: with which memory, how many neighbours, what guidance.
//! 3. `draw` asks the mesh by its public API and keeps every picture, so that a run can be broken off and taken up.
//! 4. `judge` names what each picture shows.
//! 5. `scores` sums up; `statistics` says how sure that is.
//! 6. `report`, `plots` and `sheets` tell.

#![cfg_attr(test, expect(clippy::float_cmp, reason = "what should be exact is tested to be exact"))]

use futures::future::try_join_all;
use std::path::PathBuf;

use reverie::Failure;
use reverie::mesh::AskArguments;
use reverie_service_kit::say;

mod arms;
mod benchmark;
mod draw;
mod judge;
mod plots;
mod report;
mod scores;
mod sheets;
pub(crate) mod statistics;

use arms::{Arm, Suite};
use benchmark::Benchmark;
use judge::Judge;
use report::Results;

/// Runs CreatureDrawBench.
///
/// Pictures are kept in the output folder, and those already there are not drawn again. Empty the folder, or choose
/// another, for other models or defaults.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where pictures, report, plots and contact sheets go.
    #[arg(long, short, value_name = "FOLDER", default_value = "creatures")]
    pub out: PathBuf,
    /// Folder of the benchmark. Default: `benchmark` in the bundle.
    #[arg(long, value_name = "FOLDER")]
    pub benchmark: Option<String>,
    /// Groups of arms to draw; may be repeated. Default: all but guidance and samplers, or none where arms are named.
    #[arg(long = "suite", value_name = "SUITE", value_delimiter = ',')]
    pub suites: Vec<Suite>,
    /// One more arm, such as oracle,k=2,ratio=0.25; may be repeated. Keys: k, ratio, text, neighbour, min-sigma, max-sigma (of the interval of
    /// guidance), steps, strategy, sampler, prompts (scene, painted or pair). Memories: none, oracle, wrong, bm25, embedding, hybrid.
    #[arg(long = "arm", value_name = "ARM")]
    pub arms: Vec<Arm>,
    /// How many of the benchmark's creatures.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..))]
    pub creatures: u32,
    /// How many of each creature's prompts of a scene; of those that paint it or name two creatures, all.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompts: u32,
    /// Pictures a prompt, each with a seed of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub seeds: u32,
    /// Pictures asked for at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub concurrency: u32,
    #[command(flatten)]
    mesh: AskArguments,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let folder = crate::benchmark_folder(&arguments.mesh.mesh, arguments.benchmark.as_deref())?;
    let judge = Judge::load(&folder.join("judge")?, &arguments.mesh.mesh).await?;
    let mut benchmark = Benchmark::read(&folder, judge.factors()).await?;
    benchmark.keep(arguments.creatures as usize, arguments.prompts as usize);
    let arms = arms::chosen(&arguments.suites, &arguments.arms);

    let drawn = draw::all(&arguments, &benchmark, &arms).await?;
    let out = arguments.out;
    let truths = try_join_all(benchmark.truths.iter().map(|truth| judge.names(truth))).await?;
    let scored = scores::score(&benchmark, &judge, &drawn, &out).await?;
    tokio::task::spawn_blocking(move || {
        let results = Results::new(benchmark, &judge, &truths, arms, drawn, scored);
        let figures = [plots::write(&results, &out)?, sheets::write(&results, &out)?].concat();
        report::write(&results, &figures, &out)?;
        say!("{}", out.join(report::MARKDOWN).display())?;
        Ok(())
    })
    .await?
}
