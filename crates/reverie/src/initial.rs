//! The picture that `reverie generate` starts from.

use std::path::PathBuf;

use reverie_proto::denoiser::v1::InitialPicture;

use crate::Failure;
use crate::picture_file::read;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Drawing from a picture")]
pub(crate) struct InitialArguments {
    /// Your own picture to start from, of the proportions of the one to draw; with --mask what it keeps is kept.
    #[arg(long, value_name = "FILE")]
    initial: Option<PathBuf>,
    /// How much is drawn anew, above 0 and at most 1. Default: 0.8, or 1 with a mask.
    #[arg(long, value_name = "0..1", requires = "initial", allow_negative_numbers = true)]
    strength: Option<f64>,
    /// A picture of the same size: white is drawn anew, black is kept.
    #[arg(long, value_name = "FILE", requires = "initial")]
    mask: Option<PathBuf>,
}

impl InitialArguments {
    pub(crate) async fn message(&self) -> Result<Option<InitialPicture>, Failure> {
        let Some(initial) = &self.initial else { return Ok(None) };
        let image = Some(read(initial).await?);
        let mask = match &self.mask {
            Some(mask) => Some(read(mask).await?),
            None => None,
        };
        Ok(Some(InitialPicture { image, strength: self.strength, mask }))
    }
}
