//! `reverie knowledge inspect`: what a knowledge base holds, read from its folder without a mesh.

use reverie_knowledge::Epochs;
use reverie_knowledge::epoch::Segment;
use reverie_service_kit::say;
use reverie_storage::{Folder, StorageError};
use serde_json::json;

use crate::Failure;

/// Reads the manifest of its latest epoch, and no other file.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The knowledge base: a path or a URL.
    #[arg(value_name = "FOLDER")]
    folder: String,
    /// Writes one object of JSON instead of text; null if there is no knowledge base.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let manifest = match Epochs::new(Folder::open(&arguments.folder)?).latest().await {
        Err(StorageError::NotFound { .. }) if arguments.json => return Ok(say!("null")?),
        read => read?,
    };
    let bytes = |segment: &Segment| segment.all_files().map(|file| file.size_bytes).sum::<u64>();
    if arguments.json {
        let segments = manifest.segments.iter().map(|segment| {
            json!({
                "name": segment.name,
                "size": segment.present(),
                "deleted": segment.entries - segment.present(),
                "size_bytes": bytes(segment),
            })
        });
        let snapshots = manifest.snapshots.iter().map(|(name, snapshot)| {
            let size: u64 = snapshot.segments.iter().map(Segment::present).sum();
            json!({"name": name, "epoch": snapshot.epoch, "size": size})
        });
        let found = json!({
            "name": manifest.name,
            "description": manifest.description,
            "epoch": manifest.epoch,
            "size": manifest.present(),
            "content_digest": manifest.content_digest(),
            "dimension": manifest.dimension,
            "space_digest": manifest.space_digest,
            "vectors": manifest.vectors.name(),
            "segments": segments.collect::<Vec<_>>(),
            "snapshots": snapshots.collect::<Vec<_>>(),
        });
        return Ok(say!("{found}")?);
    }
    let description = Some(&manifest.description).filter(|description| !description.is_empty());
    say!("{}{}", manifest.name, description.map_or(String::new(), |description| format!(": {description}")))?;
    let deleted = manifest.entries() - manifest.present();
    let (epoch, size) = (manifest.epoch, manifest.present());
    say!("  epoch {epoch}, {size} entries ({deleted} deleted ones are still stored)")?;
    let all: u64 = manifest.segments.iter().map(bytes).sum();
    say!("  {} segments, {:.1} MiB", manifest.segments.len(), all as f64 / f64::from(1 << 20))?;
    let (dimension, kind, encoder) = (manifest.dimension, manifest.vectors.name(), &manifest.space_digest);
    say!("  vectors of {dimension} numbers as {kind}, of the encoder {encoder}")?;
    for (name, snapshot) in &manifest.snapshots {
        let size: u64 = snapshot.segments.iter().map(Segment::present).sum();
        say!("  snapshot {name}: epoch {}, {size} entries", snapshot.epoch)?;
    }
    Ok(())
}
