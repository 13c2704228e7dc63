//! `reverie knowledge build`: images with captions become a knowledge base.
//!
//! 1. Everything that can be wrong with names, texts, pictures and the folder that is written to is looked for first, and all
//!    of it is told at once.
//! 2. The pictures are embedded; what is embedded is kept beside the target, so that an interrupted build resumes.
//! 3. The epoch is written, its manifest last.
//!
//! No more than a batch of pictures is in memory at a time.

use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

use futures::StreamExt as _;
use reverie_knowledge::epoch::{
    NewEpoch, VectorKind, Vectors, check_description, check_name, write_epoch_from,
};
use reverie_knowledge::index::build_index;
use reverie_service_kit::{output, say};

use super::embedding::{self, Embedded, EncoderArguments};
use super::listing::Columns;
use super::source::{self, Source};
use super::target::Target;

use crate::Failure;

const FIRST_EPOCH: u64 = 1;
/// Problems that are told one by one.
const TOLD: usize = 50;

/// A folder with an `entries.jsonl`, of which each line is an object with `id`, `caption`, `image` (a path within the folder) and, if
/// wanted, `attribution` and `metadata` (texts, numbers, true or false); or with a `metadata.jsonl` or `metadata.csv` whose columns are
/// `file_name`, `text` and metadata; or with `.parquet` files of Hugging Face's datasets, or `.tar` files of `WebDataset`; or with a `.txt` beside each image. Everything is checked
/// before the first picture is embedded. An interrupted build resumes when it is started again with the same --out.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The images with their captions: a folder, a .jsonl, .csv, .parquet or .tar file, or the URL of one of the last two (https://,
    /// s3://, gs://, az://).
    #[arg(long, value_name = "FOLDER|FILE|URL", value_parser = source::place)]
    pictures: PathBuf,
    #[command(flatten)]
    columns: Columns,
    /// Where the knowledge base goes; must be empty, new, or left by an interrupted build.
    #[arg(long, value_name = "FOLDER")]
    out: String,
    /// Its name: 1 to 64 lower-case letters, digits and hyphens.
    #[arg(long, value_parser = |name: &str| check_name(name).map(|()| name.to_owned()))]
    name: String,
    /// One line for people.
    #[arg(long, default_value = "", value_parser = |line: &str| check_description(line).map(|()| line.to_owned()))]
    description: String,
    /// What vectors are stored as: f32; f16, in half the memory; or i8, in a quarter, with the least exact order.
    #[arg(long, value_name = "KIND", default_value = "f32")]
    vectors: VectorKind,
    /// Threads that build the index. Default: one per core.
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Leaves bad entries out, and lists them, instead of building nothing.
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    encoder: EncoderArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut target = Target::prepare(&arguments.out)?;
    let outcome = build(arguments, &mut target).await;
    if outcome.is_err() {
        target.tidy();
    }
    outcome
}

async fn build(arguments: Arguments, target: &mut Target) -> Result<(), Failure> {
    let source = source::read(&arguments.pictures, &arguments.columns).await?;
    check(&source, arguments.skip_bad)?;
    let Embedded { rows, dimension, space_digest } =
        embedding::embed(&source, target, &arguments.encoder).await?;
    let kind = arguments.vectors;
    let threads = arguments.threads.or(available_parallelism().ok()).map_or(1, NonZero::get);
    let vectors: Vectors =
        tokio::task::spawn_blocking(move || build_index(dimension, kind, &rows, threads)).await??;
    let texts: Vec<String> = source.candidates.iter().map(|one| one.label.caption.clone()).collect();
    let captions = move || reverie_retrieval::index_captions(texts.iter().map(String::as_str));
    let captions = tokio::task::spawn_blocking(captions).await??;
    let count = source.candidates.len();
    let epoch = NewEpoch {
        name: arguments.name.clone(),
        description: arguments.description,
        epoch: FIRST_EPOCH,
        dimension,
        kind,
        space_digest,
        entries: source.candidates.iter().map(|candidate| candidate.label.clone()).collect(),
        vectors,
    };
    let images = futures::stream::iter(&source.candidates).then(|candidate| source.image(candidate));
    write_epoch_from::<Failure>(target.folder(), epoch, captions, images).await?;
    target.finish()?;
    say!("{}: {count} entries in {}", arguments.name, arguments.out)?;
    Ok(())
}

/// Goes on without the bad entries if `skip_bad`; refuses them all otherwise.
pub(super) fn check(source: &Source, skip_bad: bool) -> Result<(), Failure> {
    let Source { list, candidates, problems, .. } = source;
    if problems.is_empty() && candidates.is_empty() {
        return Err(format!("{list} has no entries").into());
    }
    if problems.is_empty() {
        return Ok(());
    }
    let mut told: Vec<String> = problems.iter().take(TOLD).map(|problem| format!("  {problem}")).collect();
    if problems.len() > TOLD {
        told.push(format!("  and {} more", problems.len() - TOLD));
    }
    let told = told.join("\n");
    if !skip_bad {
        return Err(format!(
            "{list} has bad entries; nothing was embedded. Mend them, or leave them out with --skip-bad:\n{told}"
        )
        .into());
    }
    if candidates.is_empty() {
        return Err(format!("{list} has bad entries only:\n{told}").into());
    }
    output::note(format_args!("{list}: left out\n{told}"));
    Ok(())
}
