//! `reverie knowledge delete`, `forget` and `snapshot`: changes of a knowledge base that a mesh serves.

use clap::Subcommand;
use reverie_proto::knowledge::v1::knowledge_service_client::KnowledgeServiceClient;
use reverie_proto::knowledge::v1::{
    CreateSnapshotRequest, DeleteEntriesRequest, DeleteSnapshotRequest, ForgetEntriesRequest,
    RestoreSnapshotRequest,
};
use reverie_service_kit::say;

use crate::Failure;
use crate::mesh::AskArguments;

/// Which knowledge base is changed, and through which mesh.
#[derive(Debug, clap::Args)]
pub(super) struct Base {
    /// The name of the knowledge base. Default: the mesh's own default.
    #[arg(
        long = "to",
        visible_alias = "knowledge-base",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) name: String,
    #[command(flatten)]
    mesh: AskArguments,
}

impl Base {
    /// The mesh: a running one, or one that is started and may change the knowledge base.
    pub(super) fn mesh(&self) -> AskArguments {
        let mut mesh = self.mesh.clone();
        mesh.mesh.writable = true;
        mesh
    }
}

/// Entries to delete.
#[derive(Debug, clap::Args)]
pub(super) struct IdArguments {
    /// Their ids, at most 1,000.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    base: Base,
}

/// A snapshot of a knowledge base.
#[derive(Debug, clap::Args)]
pub(super) struct SnapshotArguments {
    #[command(subcommand)]
    action: SnapshotAction,
}

#[derive(Debug, Subcommand)]
enum SnapshotAction {
    /// Keeps the present entries under a name.
    Create(SnapshotName),
    /// Makes the entries of a snapshot those of the knowledge base; the snapshot stays.
    Restore(SnapshotName),
    /// Deletes a snapshot.
    Delete(SnapshotName),
}

#[derive(Debug, clap::Args)]
struct SnapshotName {
    /// Its name: 1 to 64 lower-case letters, digits and hyphens.
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    #[command(flatten)]
    base: Base,
}

/// Deletes entries.
pub(super) async fn delete(arguments: IdArguments) -> Result<(), Failure> {
    let IdArguments { ids, base } = arguments;
    let (count, name) = (ids.len(), base.name.clone());
    let request = DeleteEntriesRequest { knowledge_base: name.clone(), ids };
    let mesh = base.mesh();
    let deleted = mesh.call(async |channel, context| {
        KnowledgeServiceClient::new(channel).delete_entries(context.outgoing(request)).await
    });
    let deleted = deleted.await?;
    tell(&name, "deleted", count, &deleted.missing_ids, deleted.epoch.map(|epoch| epoch.size))
}

/// Deletes entries, also from snapshots.
pub(super) async fn forget(arguments: IdArguments) -> Result<(), Failure> {
    let IdArguments { ids, base } = arguments;
    let (count, name) = (ids.len(), base.name.clone());
    let request = ForgetEntriesRequest { knowledge_base: name.clone(), ids };
    let mesh = base.mesh();
    let forgotten = mesh.call(async |channel, context| {
        KnowledgeServiceClient::new(channel).forget_entries(context.outgoing(request)).await
    });
    let forgotten = forgotten.await?;
    tell(&name, "forgotten", count, &forgotten.missing_ids, forgotten.epoch.map(|epoch| epoch.size))
}

/// Makes, restores or deletes a snapshot.
pub(super) async fn snapshot(arguments: SnapshotArguments) -> Result<(), Failure> {
    let (SnapshotAction::Create(named) | SnapshotAction::Restore(named) | SnapshotAction::Delete(named)) =
        &arguments.action;
    let SnapshotName { snapshot, base } = named;
    let (knowledge_base, snapshot) = (base.name.clone(), snapshot.clone());
    let mesh = base.mesh();
    let changed = match &arguments.action {
        SnapshotAction::Create(_) => {
            let made = mesh.call(async |channel, context| {
                let request = CreateSnapshotRequest { knowledge_base, snapshot };
                KnowledgeServiceClient::new(channel).create_snapshot(context.outgoing(request)).await
            });
            format!("kept, with {} entries", made.await?.snapshot.map_or(0, |made| made.size))
        }
        SnapshotAction::Restore(_) => {
            let restored = mesh.call(async |channel, context| {
                let request = RestoreSnapshotRequest { knowledge_base, snapshot };
                KnowledgeServiceClient::new(channel).restore_snapshot(context.outgoing(request)).await
            });
            format!("restored, with {} entries", restored.await?.epoch.map_or(0, |epoch| epoch.size))
        }
        SnapshotAction::Delete(_) => {
            let deleted = mesh.call(async |channel, context| {
                let request = DeleteSnapshotRequest { knowledge_base, snapshot };
                KnowledgeServiceClient::new(channel).delete_snapshot(context.outgoing(request)).await
            });
            deleted.await?;
            "deleted".to_owned()
        }
    };
    say!("{}: snapshot {} {changed}", told(&base.name), named.snapshot)?;
    Ok(())
}

fn tell(name: &str, done: &str, count: usize, missing: &[String], size: Option<u64>) -> Result<(), Failure> {
    let size = size.unwrap_or_default();
    say!("{}: {} {done}; {size} entries in all", told(name), count - missing.len())?;
    if !missing.is_empty() {
        say!("not there: {}", missing.join(", "))?;
    }
    Ok(())
}

/// The name of a knowledge base, for people.
pub(super) fn told(name: &str) -> &str {
    if name.is_empty() { "the default knowledge base" } else { name }
}
