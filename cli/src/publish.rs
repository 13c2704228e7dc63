//! Publishing: a bundle or a knowledge base is written to another place, mostly object storage.

use reverie_service_kit::say;
use reverie_storage::Folder;
use reverie_storage::publish::{Publication, Published};

use crate::Failure;

/// Where it goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Where it goes: a path, or a URL of file://, s3://, gs:// or az://. It must be empty, hold the same, or be left by an
    /// interrupted run: nothing is overwritten.
    #[arg(value_name = "URL")]
    to: String,
}

impl Target {
    /// Writes there what `publication` lists of `from`.
    pub(crate) async fn publish(&self, from: &Folder, publication: &Publication) -> Result<(), Failure> {
        let Published { written, bytes, present } =
            publication.publish(from, &Folder::open(&self.to)?).await?;
        let mib = bytes as f64 / f64::from(1 << 20);
        say!("{}: {written} files written ({mib:.1} MiB), {present} were there", self.to)?;
        Ok(())
    }
}
