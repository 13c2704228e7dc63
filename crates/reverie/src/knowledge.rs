//! `reverie knowledge build`: a folder of pictures with captions becomes a knowledge base.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use reverie_proto::encoder::v1::EmbedImageRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::tensor::v1::Image;
use reverie_proto::tensors;
use reverie_service_kit::client::{MAX_INTERNAL_MESSAGE, Stage};
use reverie_service_kit::{Context, Listener, Shutdown};
use reverie_storage::Folder;
use reverie_storage::knowledge::{Entry, NewEpoch, write_epoch};
use serde::Deserialize;

use crate::Failure;
use crate::mesh::{self, MeshArguments};

/// Pictures embedded in one call.
const BATCH: usize = 32;
const TIMEOUT: Duration = Duration::from_mins(2);
const FIRST_EPOCH: u64 = 1;

/// Builds knowledge bases.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds one from a folder with `entries.jsonl` and the pictures it names.
    Build(Build),
}

/// Each line of `entries.jsonl` is an object with `id`, `caption`, `image` (a path within the folder) and, if wanted,
/// `attribution`.
#[derive(Debug, clap::Args)]
struct Build {
    /// The folder of pictures.
    #[arg(long, value_name = "FOLDER")]
    pictures: PathBuf,
    /// Where the knowledge base goes; must be empty or new.
    #[arg(long, value_name = "FOLDER")]
    out: String,
    /// Its name.
    #[arg(long)]
    name: String,
    /// One line for people.
    #[arg(long, default_value = "")]
    description: String,
    #[command(flatten)]
    mesh: MeshArguments,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    caption: String,
    image: PathBuf,
    #[serde(default)]
    attribution: String,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Command::Build(build) = arguments.command;
    let entries = read(&build.pictures).await?;
    let (vectors, space_digest) = embed(&entries, &build.mesh).await?;
    let dimension = vectors.first().map_or(0, Vec::len) as u32;
    let count = entries.len();
    let index =
        tokio::task::spawn_blocking(move || reverie_vector::build_index(dimension, &vectors)).await??;
    let epoch = NewEpoch {
        name: build.name.clone(),
        description: build.description,
        epoch: FIRST_EPOCH,
        dimension,
        space_digest,
        entries,
        vectors: index,
    };
    write_epoch(&Folder::open(&build.out)?, epoch).await?;
    println!("{}: {count} entries in {}", build.name, build.out);
    Ok(())
}

async fn read(folder: &Path) -> Result<Vec<Entry>, Failure> {
    let list = folder.join("entries.jsonl");
    let text =
        tokio::fs::read_to_string(&list).await.map_err(|error| format!("{}: {error}", list.display()))?;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let told = |error: &dyn std::fmt::Display| format!("{} line {}: {error}", list.display(), number + 1);
        let line: Line = serde_json::from_str(line).map_err(|error| told(&error))?;
        let image = tokio::fs::read(folder.join(&line.image)).await.map_err(|error| told(&error))?;
        let Line { id, caption, attribution, .. } = line;
        entries.push(Entry { id, caption, attribution, image: image.into() });
    }
    if entries.is_empty() {
        return Err(format!("{} has no entries", list.display()).into());
    }
    Ok(entries)
}

/// Embeds every picture by the encoder service, in this process.
async fn embed(entries: &[Entry], arguments: &MeshArguments) -> Result<(Vec<Vec<f32>>, String), Failure> {
    let mut settings: reverie_encoder::Settings = mesh::service(arguments)?;
    settings.inference.bundle.clone_from(&arguments.bundle);
    let (listener, address) = Listener::memory();
    let shutdown = Shutdown::new();
    let encoder = tokio::spawn(reverie_encoder::run(settings, listener, shutdown.clone()));
    let mut client = EncoderServiceClient::new(Stage::new("encoder", &address).channel())
        .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
        .max_encoding_message_size(MAX_INTERNAL_MESSAGE);
    let (mut vectors, mut space) = (Vec::new(), String::new());
    let mut embedding = Ok(());
    for batch in entries.chunks(BATCH) {
        let images =
            batch.iter().map(|entry| Image { data: entry.image.clone(), ..Image::default() }).collect();
        let request = Context::with_timeout(TIMEOUT)
            .outgoing(EmbedImageRequest { images, ..EmbedImageRequest::default() });
        match client.embed_image(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let (shape, values) = tensors::to_f32(&answer.embeddings.unwrap_or_default())?;
                vectors.extend(values.chunks(shape.last().copied().unwrap_or(1)).map(<[f32]>::to_vec));
                space = answer.space_digest;
            }
            Err(status) => {
                embedding = Err(status.message().to_owned());
                break;
            }
        }
    }
    shutdown.cancel();
    // What kept the encoder from starting says more than that it cannot be reached.
    encoder.await??;
    embedding?;
    Ok((vectors, space))
}
