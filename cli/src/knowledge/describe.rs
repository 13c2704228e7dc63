//! `reverie knowledge describe`: what a knowledge base holds that a mesh serves.

use reverie_proto::knowledge::v1::knowledge_service_client::KnowledgeServiceClient;
use reverie_proto::knowledge::v1::{
    GetKnowledgeBaseRequest, GetKnowledgeBaseResponse, Recall, Segment, Snapshot,
};
use reverie_service_kit::say;
use serde_json::{Value, json};

use crate::Failure;
use crate::mesh::AskArguments;

/// Tells its epoch, its entries, its segments and its snapshots.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its name. Default: the mesh's own default.
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    /// Measures how many of the nearest entries searches by embedding find, with so many searches, 1 to 1,000.
    #[arg(long, value_name = "SEARCHES", default_value_t = 0, hide_default_value = true)]
    recall: u32,
    /// Writes one object of JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    mesh: AskArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { name, recall, .. } = &arguments;
    let request = GetKnowledgeBaseRequest { knowledge_base: name.clone(), recall_queries: *recall };
    let asked = arguments.mesh.call(async |channel, context| {
        KnowledgeServiceClient::new(channel).get_knowledge_base(context.outgoing(request)).await
    });
    let found = asked.await?;
    if arguments.json {
        say!("{}", as_json(&found))?;
        return Ok(());
    }
    let epoch = found.epoch.clone().unwrap_or_default();
    let deleted: u64 = found.segments.iter().map(|segment| segment.deleted).sum();
    let bytes: u64 = found.segments.iter().map(|segment| segment.size_bytes).sum();
    let description = Some(&found.description).filter(|description| !description.is_empty());
    say!("{}{}", found.name, description.map_or(String::new(), |description| format!(": {description}")))?;
    say!("  epoch {}, {} entries ({deleted} deleted ones are still stored)", epoch.number, epoch.size)?;
    say!("  {} segments, {:.1} MiB", found.segments.len(), bytes as f64 / f64::from(1 << 20))?;
    let memory = found.vector_memory_bytes.map_or(String::new(), |bytes| {
        format!(", {:.1} MiB in memory with their graph", bytes as f64 / f64::from(1 << 20))
    });
    let GetKnowledgeBaseResponse { dimension, vectors, space_digest, .. } = &found;
    say!("  vectors of {dimension} numbers as {vectors}, of the encoder {space_digest}{memory}")?;
    if let Some(Recall { recall, queries, search_milliseconds, exact_milliseconds }) = &found.recall {
        say!(
            "  recall@10 {recall:.4} ({queries} searches of {search_milliseconds:.2} ms; exact ones take {exact_milliseconds:.2} ms)"
        )?;
    }
    say!("  {}", if found.is_writable { "can be changed" } else { "cannot be changed here" })?;
    for Snapshot { name, epoch, size } in &found.snapshots {
        say!("  snapshot {name}: epoch {epoch}, {size} entries")?;
    }
    Ok(())
}

fn as_json(found: &GetKnowledgeBaseResponse) -> Value {
    let epoch = found.epoch.clone().unwrap_or_default();
    let segment = |segment: &Segment| {
        json!({
            "name": segment.name,
            "size": segment.size,
            "deleted": segment.deleted,
            "size_bytes": segment.size_bytes,
            "is_forgetting": segment.is_forgetting,
        })
    };
    let snapshot =
        |snapshot: &Snapshot| json!({"name": snapshot.name, "epoch": snapshot.epoch, "size": snapshot.size});
    let recall = |recall: &Recall| {
        json!({
            "recall": recall.recall,
            "queries": recall.queries,
            "search_milliseconds": recall.search_milliseconds,
            "exact_milliseconds": recall.exact_milliseconds,
        })
    };
    json!({
        "name": found.name,
        "description": found.description,
        "epoch": epoch.number,
        "size": epoch.size,
        "content_digest": epoch.content_digest,
        "dimension": found.dimension,
        "space_digest": found.space_digest,
        "vectors": found.vectors,
        "vector_memory_bytes": found.vector_memory_bytes,
        "recall": found.recall.as_ref().map(recall),
        "is_writable": found.is_writable,
        "segments": found.segments.iter().map(segment).collect::<Vec<_>>(),
        "snapshots": found.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
    })
}
