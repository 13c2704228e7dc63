//! `reverie knowledge publish`: a knowledge base.

use reverie_knowledge::epoch::Manifest;
use reverie_storage::Folder;

use crate::Failure;
use crate::publish::Target;

/// Writes every file that the manifest lists, verified, and the manifest last. An interrupted run resumes when it is started again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The knowledge base: a path or a URL.
    #[arg(value_name = "FOLDER")]
    folder: String,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let folder = Folder::open(&arguments.folder)?;
    let publication = Manifest::publication(&folder).await?;
    arguments.target.publish(&folder, &publication).await
}
