//! `reverie knowledge merge`: knowledge bases that were built apart become one.

use reverie_knowledge::{Merged, merge};
use reverie_service_kit::say;
use reverie_storage::Folder;

use crate::Failure;

/// Adds all entries of knowledge bases that were built apart, such as the parts of a bulk import, to one that is there (`create` makes it),
/// in one epoch: whoever searches it sees all of them or none. A run that was interrupted is repeated; what was added before is not added again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The parts, built with the same bundle: paths or URLs.
    #[arg(value_name = "FOLDER", required = true)]
    parts: Vec<String>,
    /// The knowledge base that gets their entries: a path, or a URL of s3://, gs:// or az://. It may be served meanwhile.
    #[arg(long, value_name = "FOLDER")]
    to: String,
    /// Adds parts also that were added before, if their ids are not there: after they were deleted, or an earlier snapshot was restored.
    #[arg(long)]
    again: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let parts = arguments.parts.iter().map(|part| Folder::open(part));
    let (parts, target) = (parts.collect::<Result<Vec<_>, _>>()?, Folder::open(&arguments.to)?);
    let Merged { epoch, size, added, before } = merge(&target, &parts, arguments.again).await?;
    let earlier = if before > 0 { format!(", {before} were merged before") } else { String::new() };
    say!("{}: {added} entries added{earlier}; epoch {epoch} has {size}", arguments.to)?;
    Ok(())
}
