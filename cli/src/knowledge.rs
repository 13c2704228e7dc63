//! `reverie knowledge`: makes, publishes, searches and changes knowledge bases.

mod add;
mod build;
mod change;
mod create;
mod describe;
mod embedding;
mod inspect;
mod listing;
mod merge;
mod picture_files;
mod publish;
mod search;
mod source;
mod target;
mod unfinished;

use std::path::Path;

use clap::Subcommand;

use self::listing::Columns;
use crate::Failure;

/// Builds, publishes, searches and changes knowledge bases.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds one from images with captions.
    Build(build::Arguments),
    /// Makes one without entries, to which a mesh then adds some.
    Create(create::Arguments),
    /// Adds what was built apart to one.
    Merge(merge::Arguments),
    /// Adds images with captions to one that a mesh serves, or replaces them.
    Add(add::Arguments),
    /// Deletes entries of one that a mesh serves.
    Delete(change::IdArguments),
    /// Deletes entries, from snapshots too, and removes what is stored of them.
    Forget(change::IdArguments),
    /// Keeps the present entries of one that a mesh serves under a name, restores or deletes such a snapshot.
    Snapshot(change::SnapshotArguments),
    /// Describes one that a mesh serves.
    Describe(describe::Arguments),
    /// Describes one in a folder, without a mesh.
    Inspect(inspect::Arguments),
    /// Writes one to object storage, or to another folder.
    Publish(publish::Arguments),
    /// Searches one for a text, an image, or both, without drawing.
    Search(search::Arguments),
}

/// What a data set holds.
#[derive(Debug)]
pub struct DataSet {
    /// The captions of its good entries, in order.
    pub captions: Vec<String>,
    /// What is wrong with the others, for people.
    pub problems: Vec<String>,
}

/// Reads the data set at `path` and checks its entries and images, as `reverie knowledge build` does before it builds.
///
/// # Errors
/// Nothing could be read.
pub async fn read_data_set(path: &Path) -> Result<DataSet, Failure> {
    let source = source::read(path, &Columns::default()).await?;
    Ok(DataSet {
        captions: source.candidates.into_iter().map(|candidate| candidate.label.caption).collect(),
        problems: source.problems.iter().map(ToString::to_string).collect(),
    })
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Build(arguments) => build::run(arguments).await,
        Command::Create(arguments) => create::run(arguments).await,
        Command::Merge(arguments) => merge::run(arguments).await,
        Command::Add(arguments) => add::run(arguments).await,
        Command::Delete(arguments) => change::delete(arguments).await,
        Command::Forget(arguments) => change::forget(arguments).await,
        Command::Snapshot(arguments) => change::snapshot(arguments).await,
        Command::Describe(arguments) => describe::run(arguments).await,
        Command::Inspect(arguments) => inspect::run(arguments).await,
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::Search(arguments) => search::run(arguments).await,
    }
}
