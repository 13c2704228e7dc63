//! `reverie models publish`: a bundle with its packages and knowledge bases.

use reverie_knowledge::epoch::Manifest;
use reverie_packages::Bundle;

use crate::Failure;
use crate::publish::Target;

/// Writes every file that the manifests of the bundle list, verified, and bundle.toml last. An interrupted run resumes when it is
/// started again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The bundle: a path or a URL.
    #[arg(value_name = "BUNDLE")]
    bundle: String,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let bundle = Bundle::open(&arguments.bundle).await?;
    let mut knowledge_bases = Vec::new();
    for folder in bundle.manifest.knowledge_bases.values() {
        knowledge_bases.push((folder.clone(), Manifest::publication(&bundle.folder().join(folder)?).await?));
    }
    let publication = bundle.publication(knowledge_bases).await?;
    arguments.target.publish(bundle.folder(), &publication).await
}
