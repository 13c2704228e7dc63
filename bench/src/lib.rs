//! The benchmarks of the mesh: what an image costs, how the mesh bears load, how true its images are, and how vectors are searched.
//!
//! They use the mesh through the library of the command `reverie`, which knows nothing of them.

use clap::Subcommand;
use reverie::Failure;
use reverie::mesh::MeshArguments;
use reverie_storage::Folder;

pub mod creatures;
pub mod load;
pub mod picture;
mod spread;
pub mod super_resolution;
pub mod vectors;

/// A benchmark.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What one image costs: seconds per image and per stage, time outside ONNX Runtime, memory.
    Picture(picture::Arguments),
    /// Many images at once: when the first, the average and the last are done, and how many are refused.
    Load(load::Arguments),
    /// CreatureDrawBench: how true to its creature and to its text an image is, with and without retrieval.
    Creatures(creatures::Arguments),
    /// The levels of super-resolution against interpolation.
    SuperResolution(super_resolution::Arguments),
    /// The vector service against its index in this process: recall, searches one by one and in batches, filters.
    Vectors(vectors::Arguments),
}

/// Runs a benchmark.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Picture(arguments) => picture::run(arguments).await,
        Command::Load(arguments) => load::run(arguments).await,
        Command::Creatures(arguments) => creatures::run(arguments).await,
        Command::SuperResolution(arguments) => super_resolution::run(arguments).await,
        Command::Vectors(arguments) => vectors::run(arguments).await,
    }
}

/// The folder of the prompts and true drawings: the one that is named, or `benchmark` in the bundle.
fn benchmark_folder(mesh: &MeshArguments, named: Option<&str>) -> Result<Folder, Failure> {
    Ok(match named {
        Some(location) => Folder::open(location)?,
        None => Folder::open(&mesh.bundle)?.join("benchmark")?,
    })
}
