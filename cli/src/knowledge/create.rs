//! `reverie knowledge create`: a knowledge base without entries.

use reverie_knowledge::epoch::{VectorKind, check_description, check_name, write_empty};
use reverie_service_kit::say;
use reverie_storage::Folder;

use super::embedding::{self, EncoderArguments};
use crate::Failure;

/// It belongs to the joint encoders of the bundle. A mesh that serves it and lets it be changed adds entries to it:
/// `reverie serve --writable --with-knowledge-base NAME=FOLDER`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where it goes: a path, or a URL of s3://, gs:// or az://.
    #[arg(value_name = "FOLDER")]
    folder: String,
    /// Its name: 1 to 64 lower-case letters, digits and hyphens.
    #[arg(long, value_parser = |name: &str| check_name(name).map(|()| name.to_owned()))]
    name: String,
    /// One line for people.
    #[arg(long, default_value = "", value_parser = |line: &str| check_description(line).map(|()| line.to_owned()))]
    description: String,
    /// What vectors are stored as: f32; f16, in half the memory; or i8, in a quarter, with the least exact order.
    #[arg(long, value_name = "KIND", default_value = "f32")]
    vectors: VectorKind,
    #[command(flatten)]
    encoder: EncoderArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let folder = Folder::open(&arguments.folder)?;
    let space = embedding::joint_space(&arguments.encoder).await?;
    let Arguments { name, description, vectors, .. } = arguments;
    write_empty(&folder, name.clone(), description, space.dimension, vectors, space.space_digest).await?;
    say!("{name}: no entries yet, in {}", folder.location())?;
    Ok(())
}
