//! Asks the mesh for every picture of every arm and keeps it: `pictures/ARM/CREATURE-PROMPT-SEED.png`, and a line in
//! `drawn.jsonl` once the picture is there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use futures::stream::{StreamExt as _, TryStreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use reverie::Failure;
use reverie::client::{Outcome, ask, explain};
use reverie::picture_file;
use reverie::progress::stage_name;
use reverie_knowledge::epoch::{Entry, Manifest};
use reverie_packages::Bundle;
use reverie_proto::diffusion::v1::StepKind;
use reverie_proto::generation::v1::generate_request::Memory as Remembered;
use reverie_proto::generation::v1::{GenerateRequest, NoMemory, Reference, References, Retrieval};
use reverie_proto::knowledge::v1::RetrievalStrategy;
use reverie_proto::tensor::v1::{Image, ImageFormat};
use reverie_service_kit::Address;
use reverie_storage::{Folder, sha256_hex};
use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::AsyncWriteExt as _;

use super::Arguments;
use super::arms::{Arm, Memory};
use super::benchmark::{Benchmark, SIDE};

const DRAWN: &str = "drawn.jsonl";
const PICTURES: &str = "pictures";
const MANIFEST: &str = "model.toml";
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Among the models of a picture.
const DEFAULTS: &str = "base defaults";
/// More than there are creatures, or prompts of one: seeds must not depend on how many of them are drawn.
const APART: u64 = 10_000;
/// K where the arm does not say, as in the API.
const DEFAULT_NEIGHBOURS: u32 = 2;

/// A picture that was drawn, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Drawn {
    pub(super) arm: String,
    /// Positions in the benchmark.
    pub(super) creature: usize,
    pub(super) prompt: usize,
    pub(super) seed: u64,
    /// The picture, within the output folder.
    pub(super) file: PathBuf,
    /// Ids of what was remembered.
    pub(super) neighbours: Vec<String>,
    /// Evaluations of the base model.
    pub(super) evaluations: usize,
    /// In the mesh, beside the other pictures being drawn.
    pub(super) seconds: f64,
    /// SHA-256 of the models' graphs, by stage, and of the base model's `model.toml`, which has the defaults.
    pub(super) models: BTreeMap<String, String>,
}

/// One picture to draw.
struct Job<'a> {
    arm: &'a Arm,
    creature: usize,
    prompt: usize,
    seed: u64,
}

impl Job<'_> {
    fn key(&self) -> (String, usize, usize, u64) {
        (self.arm.to_string(), self.creature, self.prompt, self.seed)
    }
}

/// Draws what is not there yet; gives back all that was asked for, in the order of the arms.
pub(super) async fn all(
    arguments: &Arguments,
    benchmark: &Benchmark,
    arms: &[Arm],
) -> Result<Vec<Drawn>, Failure> {
    let mut jobs = Vec::new();
    for arm in arms {
        for creature in 0..benchmark.creatures.len() {
            for prompt in benchmark.asked(arm.prompts) {
                jobs.extend((0..u64::from(arguments.seeds)).map(|seed| Job { arm, creature, prompt, seed }));
            }
        }
    }
    let known = read(&arguments.out).await?;
    let mut drawn: HashMap<_, Drawn> = known.into_iter().map(|drawn| (key(&drawn), drawn)).collect();
    let missing: Vec<&Job<'_>> = jobs.iter().filter(|job| !drawn.contains_key(&job.key())).collect();
    if !missing.is_empty() {
        for new in draw(arguments, benchmark, &missing, drawn.values().next()).await? {
            drawn.insert(key(&new), new);
        }
    }
    Ok(jobs.iter().filter_map(|job| drawn.remove(&job.key())).collect())
}

fn key(drawn: &Drawn) -> (String, usize, usize, u64) {
    (drawn.arm.clone(), drawn.creature, drawn.prompt, drawn.seed)
}

/// What an earlier run drew. A last line that was cut off is left out: its picture is drawn again.
async fn read(out: &Path) -> Result<Vec<Drawn>, Failure> {
    let list = out.join(DRAWN);
    if !list.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&list).await?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    if whole.len() + 1 < text.len() {
        fs::write(&list, format!("{whole}\n").trim_start()).await?;
    }
    let lines = whole.lines().enumerate().map(|(number, line)| {
        serde_json::from_str(line)
            .map_err(|error| format!("{} line {}: {error}", list.display(), number + 1).into())
    });
    lines.collect()
}

async fn draw(
    arguments: &Arguments,
    benchmark: &Benchmark,
    jobs: &[&Job<'_>],
    earlier: Option<&Drawn>,
) -> Result<Vec<Drawn>, Failure> {
    let library = Library::read(arguments, benchmark).await?;
    fs::create_dir_all(&arguments.out).await?;
    let list = fs::OpenOptions::new().create(true).append(true).open(arguments.out.join(DRAWN)).await?;
    let ask =
        async |address: &Address| draw_by(address, arguments, benchmark, &library, jobs, earlier, list).await;
    arguments.mesh.with_pipeline(ask).await
}

/// Draws by the pipeline at `address`; adds a line to `list` for each picture.
async fn draw_by(
    address: &Address,
    arguments: &Arguments,
    benchmark: &Benchmark,
    library: &Library,
    jobs: &[&Job<'_>],
    earlier: Option<&Drawn>,
    mut list: fs::File,
) -> Result<Vec<Drawn>, Failure> {
    let bar = ProgressBar::new(jobs.len() as u64);
    let style = "{bar:30} {pos}/{len} pictures, {elapsed} gone, {eta} to go";
    bar.set_style(ProgressStyle::with_template(style)?);
    let tasks = jobs.iter().map(|job| one(arguments, benchmark, library, address, job));
    let mut tasks = futures::stream::iter(tasks).buffer_unordered(arguments.concurrency as usize);
    let mut drawn: Vec<Drawn> = Vec::with_capacity(jobs.len());
    while let Some(new) = tasks.try_next().await? {
        if let Some(earlier) = earlier.or(drawn.first())
            && earlier.models != new.models
        {
            let out = arguments.out.display();
            return Err(format!(
                "{out} holds pictures of other models or defaults; choose another folder, or empty it"
            )
            .into());
        }
        let mut line = serde_json::to_vec(&new)?;
        line.push(b'\n');
        list.write_all(&line).await?;
        drawn.push(new);
        bar.inc(1);
    }
    list.flush().await?;
    bar.finish_and_clear();
    Ok(drawn)
}

async fn one(
    arguments: &Arguments,
    benchmark: &Benchmark,
    library: &Library,
    address: &Address,
    job: &Job<'_>,
) -> Result<Drawn, Failure> {
    let creature = &benchmark.creatures[job.creature];
    let prompt = &creature.prompts[job.prompt].text;
    let (memory, ids) = library.memory(benchmark, job)?;
    let request = GenerateRequest {
        prompt: prompt.clone(),
        // A seed means the same noise in every arm, and another in every prompt.
        seed: Some((job.seed * APART + job.creature as u64) * APART + job.prompt as u64),
        size: Some(SIDE),
        memory: Some(memory),
        guidance: Some(job.arm.guidance()),
        base_sampling: Some(job.arm.sampling()),
        output_format: ImageFormat::Png.into(),
        ..GenerateRequest::default()
    };
    let timeout = arguments.mesh.timeout();
    let outcome = ask(address, request, timeout, |_| {}).await;
    let outcome =
        outcome.map_err(|status| format!("{} of {prompt:?}: {}", job.arm, explain(&status, timeout)))?;
    let file = Path::new(PICTURES).join(job.arm.to_string()).join(format!(
        "{}-{}-{}.png",
        creature.name,
        job.prompt + 1,
        job.seed
    ));
    let path = arguments.out.join(&file);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).await?;
    }
    picture_file::write(&path, &outcome.image).await?;
    let found = outcome.neighbours.neighbours.iter().map(|neighbour| neighbour.id.clone());
    Ok(Drawn {
        arm: job.arm.to_string(),
        creature: job.creature,
        prompt: job.prompt,
        seed: job.seed,
        file,
        neighbours: if ids.is_empty() { found.collect() } else { ids },
        evaluations: evaluations(&outcome),
        seconds: outcome.completed.total_seconds,
        models: models(&outcome).chain([(DEFAULTS.to_owned(), library.defaults.clone())]).collect(),
    })
}

/// Rows of the base model that the steps took; a weight of 1 saves some that are counted here.
fn evaluations(outcome: &Outcome) -> usize {
    let rows = outcome.completed.step_kinds.iter().map(|&kind| match StepKind::try_from(kind) {
        Ok(StepKind::TextEnhanced | StepKind::NeighbourEnhanced | StepKind::Joint) => 2,
        Ok(StepKind::Weighted) => 3,
        _ => 1,
    });
    rows.sum()
}

fn models(outcome: &Outcome) -> impl Iterator<Item = (String, String)> {
    outcome.completed.stages.iter().filter_map(|stage| {
        let name = stage_name(stage.stage(), stage.level);
        Some((name, stage.model.as_ref()?.digest.clone()))
    })
}

/// What the bundle has beside the models: pictures of the knowledge base, to be handed over as references.
struct Library {
    name: String,
    entries: HashMap<String, Entry>,
    /// SHA-256 of the base model's `model.toml`.
    defaults: String,
}

impl Library {
    async fn read(arguments: &Arguments, benchmark: &Benchmark) -> Result<Self, Failure> {
        let location = arguments.mesh.mesh.bundle.as_str();
        let bundle = Bundle::open(location).await?;
        let name = benchmark.knowledge_base.clone();
        let folder = bundle.manifest.knowledge_bases.get(&name);
        let folder = folder
            .ok_or_else(|| format!("{location} has no knowledge base {name}, which the benchmark needs"))?;
        let folder = Folder::open(location)?.join(folder)?;
        let base = Folder::open(location)?.join(&bundle.manifest.packages.denoiser)?;
        let defaults = sha256_hex(&base.read(MANIFEST, MAX_MANIFEST_BYTES).await?);
        let entries = Manifest::read(&folder).await?.read_entries(&folder).await?;
        let entries = entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
        Ok(Self { name, entries, defaults })
    }

    /// What a request is to remember, and the ids if they are handed over.
    fn memory(&self, benchmark: &Benchmark, job: &Job<'_>) -> Result<(Remembered, Vec<String>), Failure> {
        let search = |strategy: RetrievalStrategy| {
            let retrieval = Retrieval {
                knowledge_base: self.name.clone(),
                neighbours: job.arm.neighbours,
                strategy: strategy.into(),
                ..Retrieval::default()
            };
            Ok((Remembered::Retrieval(retrieval), Vec::new()))
        };
        let shown = match job.arm.memory {
            Memory::None => return Ok((Remembered::None(NoMemory {}), Vec::new())),
            Memory::Bm25 => return search(RetrievalStrategy::Bm25),
            Memory::Embedding => return search(RetrievalStrategy::Embedding),
            Memory::Hybrid => return search(RetrievalStrategy::Hybrid),
            Memory::Oracle => job.creature,
            Memory::Wrong => stand_in(benchmark, job.creature),
        };
        let count = job.arm.neighbours.unwrap_or(DEFAULT_NEIGHBOURS) as usize;
        // Every picture has its turn, whatever K: prompts and seeds begin with another one each.
        let first = job.prompt + job.seed as usize;
        let of = |pictures: &[&String], count: usize| -> Result<Vec<String>, Failure> {
            if count > pictures.len() {
                let name = &benchmark.creatures[shown].name;
                let there = pictures.len();
                return Err(format!("{}: the benchmark has {there} pictures of {name}", job.arm).into());
            }
            Ok((first..first + count).map(|i| pictures[i % pictures.len()].clone()).collect())
        };
        let own: Vec<&String> =
            benchmark.creatures[shown].pictures.iter().map(|picture| &picture.id).collect();
        let ids = match &benchmark.creatures[job.creature].prompts[job.prompt].companion {
            None => of(&own, count)?,
            Some(companion) => {
                let theirs = companion.pictures.iter().collect::<Vec<_>>();
                [of(&own, count.div_ceil(2))?, of(&theirs, count / 2)?].concat()
            }
        };
        let references = ids.iter().map(|id| {
            let entry = self
                .entries
                .get(id)
                .ok_or_else(|| format!("the knowledge base {} has no {id}", self.name))?;
            let image = Image { data: entry.image.clone(), ..Image::default() };
            Ok::<_, Failure>(Reference {
                image: Some(image),
                caption: entry.caption.clone(),
                ..Reference::default()
            })
        });
        let references = References { references: references.collect::<Result<_, _>>()? };
        Ok((Remembered::References(references), ids))
    }
}

/// The creature whose pictures are handed over as if they were `creature`'s.
fn stand_in(benchmark: &Benchmark, creature: usize) -> usize {
    (creature + 1) % benchmark.creatures.len()
}
