//! The joint image encoder.

use std::sync::{Mutex, PoisonError};

use reverie_inference::package::Extent;
use reverie_inference::{Input, Model, ModelError, Package, Values};
use reverie_proto::pictures::{Rgb, resize_square, to_planes};

pub(crate) struct ImageEmbedder {
    model: Mutex<Model>,
    /// Side of the picture it takes, pixels.
    side: u32,
    /// Length of a vector.
    pub(crate) dim: usize,
    /// SHA-256 of the graph.
    pub(crate) digest: String,
}

impl ImageEmbedder {
    pub(crate) fn new(package: &Package, model: Model) -> Result<Self, ModelError> {
        let wrong =
            |why: &str| ModelError::Graph { package: package.manifest.name.clone(), why: why.to_owned() };
        let side = match package.manifest.graph.inputs.get("image").map(|facts| facts.shape.as_slice()) {
            Some([_, Extent::Fixed(3), Extent::Fixed(height), Extent::Fixed(width)]) if height == width => {
                u32::try_from(*width).map_err(|_| wrong("the input image is too large"))?
            }
            _ => return Err(wrong("the input image must be [batch, 3, side, side]")),
        };
        let dim = package.sample_shape("embedding")?.iter().product();
        Ok(Self { model: Mutex::new(model), side, dim, digest: package.digest().to_owned() })
    }

    /// Embeds one picture. Blocks.
    pub(crate) fn embed(&self, picture: &Rgb) -> Result<Vec<f32>, ModelError> {
        let planes = to_planes(&resize_square(picture, self.side));
        let side = self.side as usize;
        let input = Input { name: "image", shape: &[1, 3, side, side], values: Values::F32(&planes) };
        let mut embedding = vec![0.0; self.dim];
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.run(&[input], &mut [("embedding", &mut embedding)])?;
        Ok(embedding)
    }
}
