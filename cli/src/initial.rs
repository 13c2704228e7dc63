//! The picture that `reverie generate` starts from.

use std::path::PathBuf;

use reverie_proto::diffusion::v1::InitialPicture;
use reverie_proto::tensor::v1::Fit;

use crate::Failure;
use crate::picture_file::read;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Drawing from a picture")]
pub(crate) struct InitialArguments {
    /// Your own image to start from. Its proportions may differ from those of the image to draw: see --fit.
    #[arg(long, value_name = "FILE")]
    initial: Option<PathBuf>,
    /// How much is drawn anew, above 0 and at most 1. Default: 0.8, or 1 with a mask.
    #[arg(long, value_name = "0..1", requires = "initial", allow_negative_numbers = true)]
    strength: Option<f64>,
    /// An image of the same size as --initial: white is drawn anew, black is kept. Best without transparency.
    #[arg(long, value_name = "FILE", requires = "initial")]
    mask: Option<PathBuf>,
}

impl InitialArguments {
    pub(crate) async fn message(&self, fit: Fit) -> Result<Option<InitialPicture>, Failure> {
        let Some(initial) = &self.initial else { return Ok(None) };
        let image = Some(read(initial).await?);
        let mask = match &self.mask {
            Some(mask) => Some(read(mask).await?),
            None => None,
        };
        Ok(Some(InitialPicture { image, strength: self.strength, mask, fit: fit.into() }))
    }
}
